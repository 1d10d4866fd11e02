"""Run the README's commands as a newcomer would: `make run` in the background, all others in order in one shell.

Usage: python3 .ci/readme.py [--without-tests]
"""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

START_SECONDS = 600
LOG = Path(".make-run.log")
HEALTH = "http://127.0.0.1:8000/api/health/notification"


def blocks() -> list[str]:
    """Return the README's shell code, block by block."""
    return re.findall(r"^```sh\n(.*?)^```$", Path("README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def wait_for(platform: "subprocess.Popen[bytes]") -> float:
    """Return the seconds until the platform answers; exit when it does not."""
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        if platform.poll() is not None:
            sys.exit(f"`make run` ended early:\n{LOG.read_text()}")
        try:
            with urllib.request.urlopen(HEALTH, timeout=2):
                return time.monotonic() - started
        except OSError:
            time.sleep(0.2)
    sys.exit("`make run` did not answer in time")


def main() -> None:
    run, *others = blocks()
    assert run == "make run\n", run
    if "--without-tests" in sys.argv:
        others.remove("make test\n")
    with LOG.open("wb") as log:
        platform = subprocess.Popen(["make", "run"], start_new_session=True, stdout=log, stderr=log)
    try:
        print(f"make run answered after {wait_for(platform):.1f} s", flush=True)
        ended = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(others)], stdin=subprocess.DEVNULL)
    finally:
        # Signal the whole process group, as Ctrl-C does.
        os.killpg(platform.pid, signal.SIGINT)
        platform.wait(timeout=60)
    if ended.returncode:
        sys.exit(f"The README's commands failed with exit code {ended.returncode}")
    print("\nThe README's commands work")


if __name__ == "__main__":
    main()
