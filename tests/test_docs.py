"""The documentation agrees with the tree."""

import re
import subprocess
from pathlib import Path

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
    services = re.findall(r"^  (\w+)/", tree, re.MULTILINE)
    folders = {path.relative_to(ROOT).parts[1] for path in tracked() if path.is_relative_to(ROOT / "services")}
    assert set(services) == {name for name in folders if "." not in name}
    for top in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (ROOT / top).is_dir()


def test_the_security_page_has_every_item_and_names_existing_tests() -> None:
    page = (ROOT / "docs/security.md").read_text()
    assert re.findall(r"^\| (S\d+) \|", page, re.MULTILINE) == [f"S{number}" for number in range(1, 26)]
    tests = "".join(
        path.read_text() for path in tracked() if path.is_relative_to(ROOT / "tests") and path.match("test_*.py")
    )
    assert set(re.findall(r"`(test_\w+)`", page)) - set(re.findall(r"def (test_\w+)\(", tests)) == set()


def test_the_modules_in_the_documents_exist() -> None:
    for page in ROOT.glob("docs/**/*.md"):
        for name in re.findall(r"`(kit(?:\.[a-z_]+)+)", page.read_text()):
            path = ROOT / "services" / name.replace(".", "/")
            assert any(module.with_suffix(".py").is_file() for module in (path, path.parent)), f"{page}: {name}"


@pytest.mark.parametrize(
    "page", ["README.md", "docs/architecture.md", "docs/integrating.md", "docs/operations.md", "CHANGELOG.md"]
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
