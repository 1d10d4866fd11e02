"""The table of values in the chart's README, made of the comments in the values.yaml files.

`python -m tests.charts.values_table` writes it.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts/booking-platform"
SERVICES = ("auth", "booking", "notification")
README = CHART / "README.md"
_BEGIN, _END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
_ABSENT = object()
_KEY = re.compile(r"^( *)([\w.-]+):")
_FILES = {
    "": CHART / "values.yaml",
    "{auth,booking,notification}.": CHART / "charts/service/values.yaml",
    **{f"{name}.": CHART / f"charts/{name}/values.yaml" for name in ("postgres", "redis", "mongodb", "ingress-nginx")},
}


def _explained(path: Path) -> dict[tuple[str, ...], str]:
    """Return each comment by the key that follows it."""
    found, at, comment = {}, [(-1, "")], list[str]()
    for line in path.read_text().splitlines():
        key = _KEY.match(line)
        if line.strip().startswith("#"):
            comment.append(line.strip().removeprefix("# "))
        elif key:
            while at[-1][0] >= len(key[1]):
                at.pop()
            at.append((len(key[1]), key[2]))
            if comment:
                found[tuple(name for _, name in at[1:])] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def _leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*path, key))]
    return [path]


def paths() -> list[str]:
    """Return every value once; the values that the three services share stand for booking."""
    found = {
        prefix.replace("{auth,booking,notification}", "booking") + ".".join(leaf): None
        for prefix, path in _FILES.items()
        for leaf in _leaves(yaml.safe_load(path.read_text()))
        if leaf != ("global",)
    }
    return list(found)


def default(path: str) -> Any:
    """Return a value's default: the platform's chart overrides its subcharts."""
    subchart, _, rest = path.partition(".")
    inner = "service" if subchart in SERVICES else subchart
    for file, keys in ((_FILES[""], path), (CHART / f"charts/{inner}/values.yaml", rest)):
        if file.exists():
            value = yaml.safe_load(file.read_text())
            for key in keys.split("."):
                value = value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT
            if value is not _ABSENT:
                return value
    raise KeyError(path)


def unexplained() -> list[str]:
    """Return the values without a comment, neither their own nor that of a value around them."""
    return [
        prefix + ".".join(leaf)
        for prefix, path in _FILES.items()
        for leaf in _leaves(yaml.safe_load(path.read_text()))
        if not any(leaf[:length] in _explained(path) for length in range(1, len(leaf) + 1))
    ]


def table() -> str:
    rows = ["| value | default | |", "|---|---|---|"]
    for prefix, path in _FILES.items():
        explained = _explained(path)
        values = yaml.safe_load(path.read_text())
        for keys, comment in explained.items():
            value = values
            for key in keys:
                value = value[key]
            inner = any(other[: len(keys)] == keys and other != keys for other in explained)
            default = "" if inner else f"`{json.dumps(value)}`"
            name = prefix + ".".join(keys)
            if keys != ("global",):
                rows.append(f"| `{name}` | {default} | {comment} |")
    return "\n".join(rows) + "\n"


def written() -> str:
    return README.read_text().split(_BEGIN)[1].split(_END)[0]


if __name__ == "__main__":
    before, rest = README.read_text().split(_BEGIN)
    README.write_text(before + _BEGIN + table() + _END + rest.split(_END)[1])
