"""Only dependencies whose files are known get installed, and the images install what was tested."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
FILES = sorted(path.name for path in REQUIREMENTS.glob("*.txt"))


def locked(file: str) -> dict[str, list[str]]:
    """Return the hashes of each requirement in a file, by the whole requirement."""
    joined = (REQUIREMENTS / file).read_text().replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return {
        re.split(r"\s+--hash=", line)[0].strip(): re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line) for line in lines
    }


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_has_one_version_and_the_hashes_of_its_files(file: str) -> None:
    requirements = locked(file)
    assert requirements
    for requirement, hashes in requirements.items():
        assert re.match(r"[a-z0-9.-]+(\[[a-z0-9,-]+\])?==[^\s*,]+( ; .+)?$", requirement), requirement
        assert hashes, requirement


@pytest.mark.parametrize("file", ["auth.txt", "booking.txt", "notification.txt", "opentelemetry.txt", "standalone.txt"])
def test_images_install_the_files_that_were_tested(file: str) -> None:
    tested = {requirement.split(" ;")[0]: hashes for requirement, hashes in locked("dev.txt").items()}
    for requirement, hashes in locked(file).items():
        assert tested[requirement.split(" ;")[0]] == hashes
