"""The examples of docs/integrating.md, literally."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.standalone.people import doctor, patient
from tests.standalone.platform import Platform

PAGE = Path(__file__).parents[2] / "docs/integrating.md"


@pytest.mark.parametrize(
    ("language", "command"), [("sh", ["bash", "-euo", "pipefail", "-c"]), ("python", [sys.executable, "-c"])]
)
def test_the_examples_work(client: httpx.Client, platform: Platform, language: str, command: list[str]) -> None:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    variables = {
        "API": f"{platform.url}/api",
        "DOCTOR": doctor(client).id,
        "TOKEN": patient(client).headers["Authorization"].removeprefix("Bearer "),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [*command, "\n".join(blocks)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
