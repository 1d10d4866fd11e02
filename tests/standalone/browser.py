"""An installed Chromium, driven over its DevTools protocol. It records requested URLs and console errors."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_SECONDS = 30.0


class Page:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.requested: list[str] = []
        self.errors: list[str] = []
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=_SECONDS))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event["method"]:
            case "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "assert"):
                self.errors.append(json.dumps(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.errors.append(json.dumps(parameters["entry"]))

    def evaluate(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Evaluate the script until its value is true, and return the value."""
        deadline = time.monotonic() + _SECONDS
        while not (value := self.evaluate(script)):
            assert time.monotonic() < deadline, f"{script}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        self.wait_for(f"!!document.querySelector({json.dumps(selector)})")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        self.wait_for(f"!!document.querySelector({json.dumps(selector)})")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)


@contextmanager
def chromium(folder: Path) -> Iterator[str]:
    """Start a Chromium with its profile in `folder`, and yield its DevTools address."""
    assert EXECUTABLE is not None
    command = [
        EXECUTABLE,
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "--window-size=1280,1600",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        # The browser's own requests, such as updates, reach no host but this machine.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        # Chromium cannot build its sandbox as root and in many containers. It loads only our own pages.
        "--no-sandbox",
        "about:blank",
    ]
    environment = {**os.environ, "HOME": str(folder)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _address(process, folder)
    finally:
        process.terminate()
        process.wait(timeout=_SECONDS)


@contextmanager
def opened(browser: str, url: str) -> Iterator[Page]:
    """Open a page that begins to load `url`."""
    target = httpx.put(f"{browser}/json/new?about:blank", trust_env=False).json()
    with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
        page = Page(connection)
        page.call("Page.navigate", url=url)
        yield page
    httpx.get(f"{browser}/json/close/{target['id']}", trust_env=False)


def _address(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    port_file = folder / "DevToolsActivePort"
    deadline = time.monotonic() + _SECONDS
    while not (port_file.exists() and port_file.read_text().count("\n")):
        assert process.poll() is None, "Chromium ended"
        assert time.monotonic() < deadline, "Chromium does not start"
        time.sleep(0.05)
    return f"http://127.0.0.1:{port_file.read_text().splitlines()[0]}"
