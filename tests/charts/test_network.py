"""Which connections the network policies allow: exactly the edges of the design, rule by rule."""

from typing import Any

import pytest

from tests.charts.rendering import EVERYTHING, OUTSIDE, SERVICES, STORES, VALUES, Object, render

# Client, server, port.
EDGES = {
    ("auth", "postgres", 5432),
    ("auth-migrate", "postgres", 5432),
    ("booking", "postgres", 5432),
    ("booking-migrate", "postgres", 5432),
    ("notification", "mongodb", 27017),
    ("notification-migrate", "mongodb", 27017),
    *((service, "redis", 6379) for service in SERVICES),
    ("auth", "booking", 9000),
    ("booking", "auth", 9000),
    ("notification", "auth", 9000),
    *((client, service, 8000) for client in ("ingress-nginx", "smoke-test") for service in SERVICES),
}
COMPONENTS = {end for client, server, _ in EDGES for end in (client, server)}
DNS = {
    "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}
API_SERVER = {"ports": [{"port": 443}, {"port": 6443}]}
FROM_ANYWHERE = {"ports": [{"port": "http"}, {"port": "https"}]}

Rules = dict[str, tuple[list[Object], list[Object]]]


def pods_of(component: str) -> Object:
    return {
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/instance": "test", "app.kubernetes.io/name": component}
        }
    }  # fmt: skip


def policies(objects: list[Object]) -> Rules:
    """Return the ingress and the egress rules by component, and check that each policy applies to that one alone."""
    found: Rules = {}
    for one in objects:
        if one["kind"] != "NetworkPolicy":
            continue
        spec, component = one["spec"], one["metadata"]["name"].removeprefix("test-")
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        if component == "deny":
            assert spec == {
                "podSelector": {"matchLabels": {"app.kubernetes.io/instance": "test"}},
                "policyTypes": ["Ingress", "Egress"],
            }
            continue
        assert spec["podSelector"] == pods_of(component)["podSelector"]
        found[component] = (spec["ingress"] or [], spec["egress"])
    return found


def by_text(rules: list[Any]) -> list[str]:
    return sorted(map(repr, rules))


def assert_exactly(found: Rules, expected: Rules) -> None:
    assert found.keys() == expected.keys()
    for component, (ingress, egress) in expected.items():
        assert by_text(found[component][0]) == by_text(ingress), component
        assert by_text(found[component][1]) == by_text(egress), component


def expected_rules(absent: tuple[str, ...] = ()) -> Rules:
    rules: Rules = {component: ([], [DNS]) for component in COMPONENTS - set(absent)}
    for component, (ingress, egress) in rules.items():
        clients: dict[str, list[int]] = {}
        for client, server, port in sorted(EDGES):
            if server == component and client not in absent:
                clients.setdefault(client, []).append(port)
            if client == component and server not in absent:
                egress.append({"to": [pods_of(server)], "ports": [{"port": port}]})
        ingress += [
            {"from": [pods_of(client)], "ports": [{"port": p} for p in ports]} for client, ports in clients.items()
        ]
    if "ingress-nginx" in rules:
        rules["ingress-nginx"][0].append(FROM_ANYWHERE)
        rules["ingress-nginx"][1].append(API_SERVER)
    return rules


@pytest.mark.parametrize("sets", [(), EVERYTHING], ids=["default", "everything"])
def test_the_policies_allow_the_edges_of_the_design_and_nothing_else(sets: tuple[str, ...]) -> None:
    expected = expected_rules()
    for service in SERVICES if sets else ():
        expected[service][1].append({"ports": [{"port": 4318}]})
    assert_exactly(policies(render(*sets)), expected)


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("http://collector:4318", 4318), ("https://collector.example.com/otlp", 443), ("http://[2001:db8::1]", 80)],
)
def test_the_services_alone_reach_the_collector_at_its_port(endpoint: str, port: int) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    monitoring = "networkPolicy.tracingTo[0].namespaceSelector.matchLabels.name=monitoring"
    sets = (f"global.tracing.endpoint={endpoint}", monitoring)
    expected = expected_rules()
    for service in SERVICES:
        expected[service][1].append({"ports": [{"port": port}], "to": [peer]})
    assert_exactly(policies(render(*sets)), expected)


def test_every_pod_of_the_release_is_denied_what_no_policy_allows() -> None:
    assert any(one["metadata"]["name"] == "test-deny" for one in render() if one["kind"] == "NetworkPolicy")
    labels = [
        one["spec"]["template"]["metadata"]["labels"] if "template" in one["spec"] else one["metadata"]["labels"]
        for one in (
            one["spec"]["jobTemplate"] if one["kind"] == "CronJob" else one
            for one in render(*EVERYTHING)
            if one["kind"] in {"Deployment", "StatefulSet", "Job", "CronJob", "Pod"}
        )
    ]
    assert {label["app.kubernetes.io/name"] for label in labels} == COMPONENTS
    assert {label["app.kubernetes.io/instance"] for label in labels} == {"test"}


def test_stores_outside_the_release_are_reached_at_their_networks_only() -> None:
    expected = expected_rules((*STORES, "ingress-nginx"))
    outside = {"postgres": ("10.20.0.0/24", 5432), "redis": ("10.20.1.0/24", 6379), "mongodb": ("10.20.2.0/24", 27017)}
    for client, server, _ in EDGES:
        if server in outside:
            cidr, port = outside[server]
            expected[client][1].append({"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": port}]})
    for service in SERVICES:
        for port, namespace in ((8000, "gateway"), (9000, "monitoring")):
            peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
            expected[service][0].append({"from": [peer], "ports": [{"port": port}]})
    assert_exactly(policies(render(values=VALUES["production"])), expected)


def test_no_policy_is_left_for_a_component_that_is_not_in_the_release() -> None:
    assert policies(render(*OUTSIDE)).keys() == COMPONENTS - set(STORES)


def test_a_controller_in_its_own_namespace_is_the_only_peer_of_another_namespace() -> None:
    found = [one for one in render("ingress-nginx.namespace=edge") if one["kind"] == "NetworkPolicy"]
    namespaces = {(one["metadata"]["name"].removeprefix("test-"), one["metadata"]["namespace"]) for one in found}
    assert namespaces == {(name, "booking") for name in COMPONENTS - {"ingress-nginx"} | {"deny"}} | {
        ("ingress-nginx", "edge"),
        ("deny", "edge"),
    }

    def located(rule: Object) -> Object:
        return rule if rule is DNS else {key: [with_namespace(peer) for peer in peers] for key, peers in rule.items()}

    expected = {
        component: ([located(rule) for rule in ingress], [located(rule) for rule in egress])
        for component, (ingress, egress) in expected_rules().items()
    }
    assert_exactly(policies(found), expected)


def with_namespace(peer: Object) -> Object:
    component = peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name")
    if component is None:
        return peer
    namespace = "edge" if component == "ingress-nginx" else "booking"
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}} | peer


def test_the_controllers_way_to_the_api_server_can_be_narrowed() -> None:
    rules = policies(render("networkPolicy.apiServerCidrs[0]=10.0.0.1/32"))["ingress-nginx"][1]
    assert API_SERVER | {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]} in rules
    assert API_SERVER not in rules


@pytest.mark.parametrize("service", SERVICES)
def test_the_services_are_reachable_inside_the_cluster_only(service: str) -> None:
    (found,) = (
        one["spec"]
        for one in render()
        if one["kind"] == "Service" and one["metadata"]["name"] == f"test-{service}"
    )  # fmt: skip
    assert found.get("type", "ClusterIP") == "ClusterIP"
    assert {port["port"] for port in found["ports"]} == {8000, 9000}
