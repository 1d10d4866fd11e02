import re
from functools import cache

import pytest
from litestar import Litestar

from services.standalone import gateway
from tests.charts.rendering import EVERYTHING, ROOT, SERVICES, of_kind, render
from tests.charts.services import litestar

# Paths of a pod's probes, which are not the platform's.
OWN = {"/api/health", "/api/health/live"}


@cache
def routes() -> dict[str, dict[tuple[str, str], str]]:
    """Return the service by (kind of match, path), of the Ingress and of the HTTPRoute."""
    objects = render(*EVERYTHING)
    ingress, gateway_api = {}, {}
    (rule,) = of_kind(objects, "Ingress")["test"]["spec"]["rules"]
    for path in rule["http"]["paths"]:
        ingress[path["pathType"], path["path"]] = path["backend"]["service"]["name"]
    for rule in of_kind(objects, "HTTPRoute")["test"]["spec"]["rules"]:
        (backend,) = rule["backendRefs"]
        assert backend["port"] == 8000
        for match in rule["matches"]:
            gateway_api[match["path"]["type"].removeprefix("Path"), match["path"]["value"]] = backend["name"]
    return {"Ingress": ingress, "HTTPRoute": gateway_api}


def answered_by(table: dict[tuple[str, str], str], path: str) -> str | None:
    if ("Exact", path) in table:
        return table["Exact", path]
    while path and ("Prefix", path) not in table:
        path = path.rpartition("/")[0]
    return table.get(("Prefix", path or "/"))


def paths(app: Litestar) -> set[str]:
    """Return the paths of the service's OpenAPI document and of the document itself."""
    return {
        *(app.openapi_schema.paths or {}),
        *(route.path for route in app.routes if route.path.startswith("/api/docs")),
    }


@pytest.mark.parametrize("kind", ["Ingress", "HTTPRoute"])
@pytest.mark.parametrize("service", SERVICES)
def test_every_path_of_a_service_leads_to_it(kind: str, service: str) -> None:
    shared = OWN | {"/api/docs"}
    for path in paths(litestar(service)) - shared:
        assert answered_by(routes()[kind], path) == f"test-{service}", path


@pytest.mark.parametrize("kind", ["Ingress", "HTTPRoute"])
def test_every_route_leads_to_an_existing_path(kind: str) -> None:
    for (match, path), service in routes()[kind].items():
        if (match, path) == ("Prefix", "/"):
            continue
        known = paths(litestar(service.removeprefix("test-"))) | OWN
        assert any(one == path or (match == "Prefix" and one.startswith(f"{path}/")) for one in known), path


@pytest.mark.parametrize("kind", ["Ingress", "HTTPRoute"])
@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/api", "/api/nothing", "/api/doctorsx", "/api/docs/errors", "/metrics"]
)
def test_auth_answers_every_path_that_no_service_has(kind: str, path: str) -> None:
    assert answered_by(routes()[kind], path) == "test-auth"
    assert gateway.route(path) == "auth"


def test_make_run_has_the_same_routes() -> None:
    expected = {("Exact", path): f"test-{service}" for path, service in gateway.EXACT.items()}
    expected |= {("Prefix", path): f"test-{service}" for path, service in gateway.PREFIXES.items()}
    assert routes() == {"Ingress": expected, "HTTPRoute": expected}


def test_compose_has_the_same_routes() -> None:
    proxy = (ROOT / "compose.nginx.conf").read_text()
    patterns = re.findall(r"~(\S+) (\w+);", proxy)
    assert re.findall(r"default (\w+);", proxy) == ["auth"]
    for (_, path), service in routes()["Ingress"].items():
        (found,) = {name for pattern, name in patterns if re.search(pattern, path)} or {"auth"}
        assert f"test-{found}" == service, path


def test_no_route_leads_to_the_internal_port() -> None:
    objects = render(*EVERYTHING)
    for path in of_kind(objects, "Ingress")["test"]["spec"]["rules"][0]["http"]["paths"]:
        assert path["backend"]["service"]["port"] == {"name": "http"}


def test_the_routes_depend_on_no_annotation() -> None:
    (ingress,) = of_kind(render(), "Ingress").values()
    assert "annotations" not in ingress["metadata"]
