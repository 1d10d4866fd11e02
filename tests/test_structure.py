"""The rules for the tree that no linter checks: sizes, names, and who imports whom among the tests."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("services", "tests") for path in (ROOT / folder).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 250, 60
DRAWERS = {"utils", "helpers", "common", "base", "misc", "manager"}  # names that say nothing about the content


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): path.read_bytes().count(b"\n") for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    functions = {
        f"{name_of(path)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > MAX_FUNCTION_LINES} == {}


def test_imports_are_at_the_top_of_the_file() -> None:
    inner = [
        f"{name_of(path)}: {function.name}"
        for path in SOURCES
        for function in ast.walk(tree_of(path))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(function))
    ]
    assert inner == []


def test_every_name_says_something_and_every_package_file_is_empty() -> None:
    assert [name_of(path) for path in SOURCES if DRAWERS & {path.stem, path.parent.name}] == []
    assert [name_of(path) for path in SOURCES if path.name == "__init__.py" and path.stat().st_size] == []


def test_no_test_imports_another_test_or_another_suite() -> None:
    strangers = []
    for path in SOURCES:
        suite = path.relative_to(ROOT).parts[:2]
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("tests"):
                continue
            parts = (node.module or "").split(".")
            if (
                parts[-1].startswith("test_")
                or parts[-1] == "conftest"
                or (*parts[1:2], suite[1]) not in ((suite[1], suite[1]), ("support", suite[1]))
            ):
                strangers.append(f"{name_of(path)}: {node.module}")
    assert strangers == []
