import json
import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from tests.charts.rendering import CHART, EVERYTHING, SERVICES, of_kind, render
from tests.charts.services import service
from tests.support.running import internal_client_of

ALERTS = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
DASHBOARD = json.loads((CHART / "files/dashboard.json").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


async def scraped() -> set[str]:
    """Return the names of all metrics that the services expose at their start."""
    names = set()
    for name in SERVICES:
        async with internal_client_of(service(name)) as client:
            text = (await client.get("/metrics")).raise_for_status().text
        families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        names |= set(families) | {f"{family}_bucket" for family, kind in families.items() if kind == "histogram"}
    return names


def selected(expression: promql_parser.Expr) -> set[str]:
    names = set()

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            names.add(node.name)

    promql_parser.walk(expression, note)
    return names


@pytest.mark.parametrize("expression", EXPRESSIONS)
async def test_every_metric_that_an_expression_names_exists(expression: str) -> None:
    named = selected(promql_parser.parse(expression))
    assert named
    assert named <= await scraped() | RECORDED


def test_prometheus_loads_the_rules(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    (rule,) = of_kind(render(*EVERYTHING), "PrometheusRule").values()
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout
