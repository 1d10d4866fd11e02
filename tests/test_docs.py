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


_UNITS = {"ms": 0.001, "s": 1.0}


def _seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+) ?(ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def _limit_in_code(name: str, key: str | None) -> float:
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(f"services.{module}"), attribute)
    value = value[key] if isinstance(value, dict) else value
    return _seconds(value) if isinstance(value, str) else value / 1000 if attribute.endswith("_MS") else value


def test_the_table_of_time_limits_has_the_codes_values() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+ m?s) \| `([\w.]+)` \|$", page, re.MULTILINE)
    limits = {}
    for what, after, name in rows:
        key = re.search(r"\(`(\w+)`\)", what)
        limits[key[1] if key and name.endswith("_LIMITS") else name] = _seconds(after)
        assert _seconds(after) == pytest.approx(_limit_in_code(name, key and key[1])), what
    assert limits["kit.postgres.migrations._LOCK_TIMEOUT"] < limits["lock_timeout"] < limits["statement_timeout"]
    for client in ("kit.postgres.database", "auth.database"):
        assert limits["statement_timeout"] < limits[f"{client}._COMMAND_SECONDS"]
    assert limits["kit.postgres.database._COMMAND_SECONDS"] < limits["kit.postgres.database._TRANSACTION_SECONDS"] < 3
    mongodb = [
        limits[f"notification.repository.{name}"] for name in ("_SELECTION_MS", "_OPERATION_MS", "_WAIT_SECONDS")
    ]
    assert mongodb == sorted(mongodb)


def test_the_table_of_time_limits_has_every_limit_of_the_stores() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    stores = ["kit/postgres/pool", "kit/postgres/database", "kit/postgres/relay", "kit/quotas", "auth/database"]
    for module in [*stores, "notification/repository"]:
        code = (ROOT / "services" / f"{module}.py").read_text()
        for name in re.findall(
            r"^(_(?:ACQUIRE|COMMAND|TRANSACTION|REDIS|WAIT|SELECTION|OPERATION)_\w+) =", code, re.MULTILINE
        ):
            assert f"`{module.replace('/', '.')}.{name}`" in page
