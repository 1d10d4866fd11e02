"""The documentation agrees with the tree."""

import importlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.standalone.settings import Settings

ROOT = Path(__file__).parents[1]


def tracked() -> list[Path]:
    """Return the files that git tracks, and new ones that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_the_tree_in_architecture_is_the_tree() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    tree = page.split("## Where things are")[1].split("```")[1]
    named, parents = set(), [Path()]
    for indent, name in re.findall(r"^( *)([\w/]+)/ ", tree.replace("services/\n", "services/ \n"), re.MULTILINE):
        parents[len(indent) // 2 + 1 :] = [parents[len(indent) // 2] / name]
        named.add(parents[-1].as_posix())
    for top in (name for name in named if "/" not in name):
        assert (ROOT / top).is_dir(), top
    folders = {path.parent.relative_to(ROOT) for path in tracked() if path.is_relative_to(ROOT / "services")}
    packages = {folder.as_posix() for folder in folders if len(folder.parts) <= 3 and folder.name != "migrations"}
    assert {name for name in named if name.startswith("services")} == packages


def test_the_security_page_has_every_item_and_names_existing_tests() -> None:
    page = (ROOT / "docs/security.md").read_text()
    assert re.findall(r"^\| (S\d+) \|", page, re.MULTILINE) == [f"S{number}" for number in range(1, 26)]
    tests = "".join(
        path.read_text() for path in tracked() if path.is_relative_to(ROOT / "tests") and path.match("test_*.py")
    )
    assert set(re.findall(r"`(test_\w+)`", page)) - set(re.findall(r"def (test_\w+)\(", tests)) == set()


PAGES = sorted(ROOT.glob("docs/**/*.md"))


def test_the_modules_in_the_documents_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`((?:kit|contracts|standalone)(?:\.\w+)+)`", page.read_text()):
            found: Any = importlib.import_module("services")
            for part in name.split("."):
                if not hasattr(found, part):
                    importlib.import_module(f"{found.__name__}.{part}")
                found = getattr(found, part)


def test_the_paths_in_the_documents_exist() -> None:
    folders = "services|tests|charts|docs|k8s|auth|booking|notification|kit|contracts|standalone"
    for page in ROOT.glob("docs/*.md"):
        for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text()):
            assert (ROOT / path).exists() or (ROOT / "services" / path).exists(), f"{page.name}: {path}"


def test_the_checklist_names_what_is_there() -> None:
    code = "".join(path.read_text() for folder in ("services", "tests") for path in (ROOT / folder).rglob("*.py"))
    page = (ROOT / "docs/adding-an-endpoint.md").read_text()
    names = {name for text in re.findall(r"`([^`/ ]+)`", page) for name in re.findall(r"[A-Za-z_]{3,}", text)}
    words = set(re.findall(r"\w+", code)) | {"CHANGELOG", "README", "md", "dateTime"}
    assert names - words == set()


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/adding-an-endpoint.md",
        "docs/architecture.md",
        "docs/integrating.md",
        "docs/operations.md",
        "CHANGELOG.md",
    ],
)
def test_links_have_targets(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert target.startswith("https://") or ((ROOT / page).parent / target).exists(), target


def test_the_operations_page_names_all_metrics() -> None:
    page = (ROOT / "docs/operations.md").read_text().split("## What to watch")[1].split("##")[0]
    named = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)[1:]
    metrics = {name for cell in named for name in re.findall(r"`(\w+)", cell)}
    code = "\n".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
    exposed = set(re.findall(r"""(?:Counter|CounterMetricFamily|Gauge|Histogram|Seconds)\(\s*"(\w+)\"""", code))
    assert metrics == exposed


def test_the_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z0-9]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named
    assert named <= targets


def test_the_readme_names_the_settings_of_make_run() -> None:
    readme = (ROOT / "README.md").read_text()
    optional = {"AUTH_MIGRATION_DATABASE_URL", "BOOKING_MIGRATION_DATABASE_URL", "HOST", "LOG_LEVEL"}
    names = {name.upper() for name in Settings.__struct_fields__}
    assert {name for name in names if f"`{name}`" not in readme} <= optional


def test_a_decision_is_one_screen() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        lines = path.read_text().splitlines()
        assert len(lines) <= 45, path
        assert lines[0].startswith(f"# {int(path.name[:4])}. ")
