"""An installed Chromium, driven over its DevTools protocol: what it asked for, and what it complained of."""

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
        self.complaints: list[str] = []
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
        told = event.get("params", {})
        match event["method"]:
            case "Network.requestWillBeSent":
                self.requested.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "assert"):
                self.complaints.append(json.dumps(told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.complaints.append(json.dumps(told["entry"]))

    def evaluate(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Until the script's value is true."""
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
    """Where a Chromium is driven from; its profile is in `folder`."""
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
        # Whatever the browser itself would like to fetch: it finds this machine and no other.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        # Root has no sandbox, nor has anybody in many a container; the one page that is loaded is ours.
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
    """A page that is about to load `url`."""
    target = httpx.put(f"{browser}/json/new?about:blank", trust_env=False).json()
    with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
        page = Page(connection)
        page.call("Page.navigate", url=url)
        yield page
    httpx.get(f"{browser}/json/close/{target['id']}", trust_env=False)


def _address(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    told = folder / "DevToolsActivePort"
    deadline = time.monotonic() + _SECONDS
    while not (told.exists() and told.read_text().count("\n")):
        assert process.poll() is None, "Chromium ended"
        assert time.monotonic() < deadline, "Chromium does not start"
        time.sleep(0.05)
    return f"http://127.0.0.1:{told.read_text().splitlines()[0]}"
