"""What Helm renders, and what it refuses to render."""

import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.charts.rendering import EVERYTHING, HELMS, ROOT, TOOLS, VALUES, Refused, of_kind, render, text

MINORS = ("1.32", "1.33", "1.34")
# Kinds of other projects, for which the validator has no schema.
FOREIGN = {"HTTPRoute", "ServiceMonitor", "PrometheusRule"}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("minor", MINORS)
def test_rendered_objects_are_valid(minor: str, values: str, tmp_path: Path) -> None:
    sets = EVERYTHING if values == "default" else ()
    own = [one for one in render(*sets, values=VALUES[values]) if one["kind"] not in FOREIGN]
    own.append(yaml.safe_load((ROOT / "k8s/namespace.yaml").read_text()))
    rendered = tmp_path / "chart.yaml"
    rendered.write_text(yaml.safe_dump_all(own))
    options = ["--strict", "--no-warn", "-k", f"{minor}.0", str(rendered)]
    command = [str(TOOLS / "python"), str(TOOLS / "kubernetes-validate"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed") == len(own)


def test_the_http_route_follows_the_gateway_apis_definition() -> None:
    (version,) = yaml.safe_load((ROOT / "tests/charts/crds/httproute.yaml").read_text())["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    (route,) = of_kind(render(*EVERYTHING, "gateway.hostnames[0]=booking.example.com"), "HTTPRoute").values()
    jsonschema_rs.validate(schema, route)
    route["spec"]["rules"][0]["matches"][0]["paths"] = "misspelt"
    assert not jsonschema_rs.is_valid(schema, route)


def closed(schema: Any) -> Any:
    """Refuse unknown fields, which the API server would drop."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    is_object = schema.get("type") == "object" and "properties" in schema
    return inner | {"additionalProperties": False} if is_object else inner


def test_kind_maps_ports_of_this_machine_to_the_ingress_controllers_node_ports() -> None:
    cluster = yaml.safe_load((ROOT / "k8s/kind.yaml").read_text())
    (node,) = cluster["nodes"]
    service = of_kind(render(values=VALUES["dev"]), "Service")["test-ingress-nginx"]
    ports = {port["nodePort"]: port["port"] for port in service["spec"]["ports"]}
    assert {one["containerPort"]: one["hostPort"] for one in node["extraPortMappings"]} == ports
    assert cluster["name"] in (ROOT / "README.md").read_text().split("kind load docker-image", 1)[1].split("\n")[0]
    namespace = yaml.safe_load((ROOT / "k8s/namespace.yaml").read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("values", VALUES)
def test_helm_3_and_4_render_the_same_objects(values: str) -> None:
    def comparable(helm: str) -> list[object]:
        # Secrets are random.
        return [one for one in render(values=VALUES[values], helm=helm) if one["kind"] != "Secret"]

    assert comparable("helm3") == comparable("helm4")


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("wrong", ["nobody=1", "auth.replcias=2", "postgres.imagine=1", "auth.replicas=many"])
def test_an_unknown_or_malformed_value_is_refused(helm: str, wrong: str) -> None:
    with pytest.raises(Refused, match="schema"):
        text(wrong, helm=helm)


@pytest.mark.parametrize(
    ("sets", "sentence"),
    [
        (("postgres.enabled=false",), "name the Secret .* in global.existingSecrets.postgres"),
        (("booking.replicas=9",), "all pods together may open 293 connections"),
        (("auth.autoscaling.enabled=true", "auth.autoscaling.maxReplicas=20"), "raise it, or lower replicas"),
        (("ingress-nginx.enabled=false",), "name the class of your own controller in ingress.className"),
        (("gateway.enabled=true",), "name the Gateways of the HTTPRoute in gateway.parentRefs"),
        (("auth.tlsSecret=theirs",), "set it for all three or for none"),
    ],
)
def test_values_that_cannot_work_are_refused_with_a_sentence(sets: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        text(*sets)
