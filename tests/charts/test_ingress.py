"""The bundled ingress controller: what it may read, and which headers it sends."""

import json
import re
from pathlib import Path

import pytest
from msgspec import to_builtins

from services.kit.errors import (
    BadRequest,
    ContentTooLarge,
    HeadersTooLarge,
    MethodNotAllowed,
    NotFound,
    Unavailable,
    problem_of,
)
from tests.charts.rendering import EVERYTHING, VALUES, Object, containers, of_kind, pod_specs, render

Right = tuple[str, tuple[str, ...], frozenset[str]]
READ = {"get", "list", "watch"}
# What the controller may do, by kind and namespace: (API group and resource, names, verbs).
IN_THE_PLATFORMS: set[Right] = {
    ("/secrets", ("tls",), frozenset(READ)),
    ("/configmaps", (), frozenset(READ)),
    ("/services", (), frozenset(READ)),
    ("/events", (), frozenset({"create", "patch"})),
    ("discovery.k8s.io/endpointslices", (), frozenset(READ)),
    ("networking.k8s.io/ingresses", (), frozenset(READ)),
    ("networking.k8s.io/ingresses/status", (), frozenset({"update"})),
}
IN_ITS_OWN: set[Right] = {
    ("/pods", (), frozenset({"get", "list"})),
    ("/services", ("test-ingress-nginx",), frozenset({"get"})),
    ("coordination.k8s.io/leases", ("test-ingress-nginx",), frozenset({"get", "update"})),
}
IN_THE_CLUSTER: set[Right] = {
    ("networking.k8s.io/ingressclasses", (), frozenset(READ)),
    ("/namespaces", ("booking",), frozenset({"get"})),
}


def rights(objects: list[Object]) -> dict[tuple[str, str], set[Right]]:
    """Return what is granted by (account, namespace of the grant); the cluster's namespace is `*`."""
    roles = {
        (one["kind"], one["metadata"]["name"]): one["rules"]
        for one in objects
        if one["kind"] in {"Role", "ClusterRole"}
    }
    found: dict[tuple[str, str], set[Right]] = {}
    for one in objects:
        if one["kind"] not in {"RoleBinding", "ClusterRoleBinding"}:
            continue
        (subject,) = one["subjects"]
        where = one["metadata"].get("namespace", "booking") if one["kind"] == "RoleBinding" else "*"
        for rule in roles.pop((one["roleRef"]["kind"], one["roleRef"]["name"])):
            granted = {
                (f"{group}/{resource}", tuple(rule.get("resourceNames", ())), frozenset(rule["verbs"]))
                for group in rule["apiGroups"]
                for resource in rule["resources"]
            }
            found.setdefault((f"{subject['namespace']}/{subject['name']}", where), set()).update(granted)
    assert not roles, "a role without a binding"
    return found


@pytest.mark.parametrize("namespace", ["booking", "edge"])
def test_the_controller_may_read_one_secret_and_no_other_account_anything(namespace: str) -> None:
    account = f"{namespace}/test-ingress-nginx"
    expected = {(account, "booking"): IN_THE_PLATFORMS, (account, "*"): IN_THE_CLUSTER}
    expected[account, namespace] = expected.get((account, namespace), set()) | IN_ITS_OWN
    assert rights(render(*EVERYTHING, f"ingress-nginx.namespace={namespace}")) == expected


def test_without_tls_the_controller_may_read_a_secret_that_is_not_there() -> None:
    objects = render()
    granted = [right for rights_ in rights(objects).values() for right in rights_ if right[0] == "/secrets"]
    assert granted == [("/secrets", ("test-ingress-tls",), frozenset(READ))]
    assert "test-ingress-tls" not in of_kind(objects, "Secret")


def test_production_has_no_controller_and_no_right_at_the_api_server() -> None:
    objects = render(values=VALUES["production"])
    assert not rights(objects)
    assert "test-ingress-nginx" not in of_kind(objects, "Deployment")


def test_the_controllers_requests_pass_the_filter_that_names_the_secret() -> None:
    objects = render("ingress.tls.secretName=tls")
    files = of_kind(objects, "ConfigMap")["test-ingress-nginx-api"]["data"]
    assert "location = /api/v1/namespaces/booking/secrets {" in files["api.conf"]
    assert "metadata.name%3Dtls" in files["api.conf"]
    assert 'server: "https://127.0.0.1:6443"' in files["kubeconfig.yaml"]
    spec = pod_specs(objects)["Deployment/test-ingress-nginx"]
    by_name = {container["name"]: container for container in containers(spec)}
    assert "--kubeconfig=/api/kubeconfig.yaml" in by_name["controller"]["args"]
    assert by_name["api"]["restartPolicy"] == "Always"


def test_another_secret_makes_another_pod() -> None:
    def annotations(secret: str) -> object:
        deployment = of_kind(render(f"ingress.tls.secretName={secret}"), "Deployment")["test-ingress-nginx"]
        return deployment["spec"]["template"]["metadata"]["annotations"]

    assert annotations("one") != annotations("other")


def test_a_controller_in_its_own_namespace_leaves_only_its_configuration_in_the_platforms() -> None:
    objects = render("ingress-nginx.namespace=edge", "ingress.tls.secretName=tls")
    found = {
        one["kind"]: one["metadata"].get("namespace", "booking")
        for one in objects
        if one["metadata"]["name"] == "test-ingress-nginx" and one["kind"] not in {"Role", "RoleBinding", "ConfigMap"}
    }
    assert found == dict.fromkeys(("ServiceAccount", "Service", "Deployment", "Lease", "NetworkPolicy"), "edge")
    controller = pod_specs(objects)["Deployment/test-ingress-nginx"]["containers"][0]
    assert {"--watch-namespace=booking", "--configmap=booking/test-ingress-nginx"} <= set(controller["args"])


def config(*sets: str) -> dict[str, str]:
    found: dict[str, str] = of_kind(render(*sets), "ConfigMap")["test-ingress-nginx"]["data"]
    return found


def test_browsers_stay_with_https() -> None:
    assert (config()["hsts"], config()["hsts-max-age"]) == ("true", "31536000")
    assert config("global.hstsSeconds=0")["hsts"] == "false"
    (route,) = of_kind(render(*EVERYTHING), "HTTPRoute").values()
    for rule in route["spec"]["rules"]:
        (header,) = rule["filters"][0]["responseHeaderModifier"]["set"]
        assert header == {"name": "Strict-Transport-Security", "value": "max-age=31536000"}
    (route,) = of_kind(render(*EVERYTHING, "global.hstsSeconds=0"), "HTTPRoute").values()
    assert not any("filters" in rule for rule in route["spec"]["rules"])


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def test_the_controllers_own_answers_have_the_headers_of_the_services() -> None:
    snippet = config("ingress-nginx.config.http-snippet=# mine")["http-snippet"]
    assert snippet.endswith("# mine")
    for name, value in HEADERS.items():
        variable, own = (text.lower().replace("-", "_") for text in (name, name.removeprefix("X-")))
        assert f"add_header {name} $own_{own} always;" in snippet
        found = re.search(rf'map \$upstream_http_{variable} \$own_{own} {{\s*"" (.*?);\s*}}', snippet)
        assert found
        assert found[1].strip('"') == value


PROBLEMS = {
    "default": BadRequest,
    "404": NotFound,
    "405": MethodNotAllowed,
    "413": ContentTooLarge,
    "431": HeadersTooLarge,
    "503": Unavailable,
}


def test_the_controllers_own_refusals_are_the_problems_of_the_services() -> None:
    written = dict(re.findall(r"^    (default|\d+) '(\{.*\})';$", config()["http-snippet"], re.MULTILINE))
    assert written.keys() == PROBLEMS.keys()
    for status, error in PROBLEMS.items():
        detail = "The proxy cannot read the request" if status == "default" else None
        assert json.loads(written[status]) == to_builtins(problem_of(error, "$request_id", detail))


def test_every_status_of_the_controllers_refusals_has_its_problem() -> None:
    snippet = config("ingress-nginx.config.server-snippet=# mine")["server-snippet"]
    assert snippet.endswith("# mine")
    for line in re.findall(r"^error_page (.*) /.problem;$", snippet, re.MULTILINE):
        sent = line.split("=")[-1] if "=" in line else line
        assert sent == "400" or sent in PROBLEMS


def test_composes_proxy_is_configured_alike() -> None:
    ours = (Path(__file__).parents[2] / "compose.nginx.conf").read_text()
    for line in (config()["http-snippet"] + config()["server-snippet"]).splitlines():
        assert line.startswith("#") or line.strip() in ours


def test_the_ingress_takes_annotations_for_another_controller() -> None:
    (ingress,) = of_kind(render("ingress.annotations.example\\.com/waf=on", *EVERYTHING), "Ingress").values()
    assert ingress["metadata"]["annotations"] == {
        "cert-manager.io/cluster-issuer": "issuer",
        "example.com/waf": "on",
    }
