import base64
import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from services.auth.sessions.keys import SigningKeys
from tests.charts.rendering import (
    EVERYTHING,
    ROOT,
    SERVICES,
    TOOLS,
    Object,
    containers,
    of_kind,
    pod_specs,
    render,
    text,
)

PODS = pod_specs(render(*EVERYTHING))


@pytest.mark.parametrize("name", PODS)
def test_every_pod_keeps_to_the_restricted_profile(name: str) -> None:
    spec = PODS[name]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert not any("hostPath" in volume for volume in spec.get("volumes", []))
    for container in containers(spec):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize("name", PODS)
def test_every_container_is_bounded(name: str) -> None:
    for container in containers(PODS[name]):
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
    for volume in PODS[name].get("volumes", []):
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("name", PODS)
def test_no_pod_has_an_account_of_the_api_server(name: str) -> None:
    assert PODS[name]["automountServiceAccountToken"] is False


def test_only_the_ingress_controller_may_ask_the_api_server() -> None:
    objects = render(*EVERYTHING)
    bindings = of_kind(objects, "RoleBinding", "ClusterRoleBinding").values()
    assert {subject["name"] for one in bindings for subject in one["subjects"]} == {"test-ingress-nginx"}
    rules = of_kind(objects, "ClusterRole")["booking-test-ingress-nginx"]["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {"ingressclasses", "namespaces"}


def test_each_workload_has_an_account_of_its_own() -> None:
    accounts = [
        PODS[name]["serviceAccountName"] for name in PODS if name.partition("/")[0] in ("Deployment", "StatefulSet")
    ]
    assert len(accounts) == len(set(accounts)) == 7


def allowed(objects: list[Object]) -> set[tuple[str, str, int]]:
    """The connections between pods of the release that both ends' policies allow: client, server, port."""
    ingress: set[tuple[str, str, int]] = set()
    egress: set[tuple[str, str, int]] = set()
    for one in of_kind(objects, "NetworkPolicy").values():
        name = one["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/name")
        for direction, peers, found in (("ingress", "from", ingress), ("egress", "to", egress)):
            for rule in one["spec"].get(direction) or []:
                for peer in rule.get(peers, []):
                    labels = peer.get("podSelector", {}).get("matchLabels", {})
                    if "app.kubernetes.io/name" in labels:
                        assert labels["app.kubernetes.io/instance"] == "test"
                        ends = (name, labels["app.kubernetes.io/name"])
                        client, server = ends if direction == "egress" else reversed(ends)
                        found |= {(client, server, port["port"]) for port in rule["ports"]}
    assert ingress == egress
    return egress


STORES = {"auth": ("postgres", 5432), "booking": ("postgres", 5432), "notification": ("mongodb", 27017)}


def test_pods_reach_each_other_by_the_edges_of_the_design_only() -> None:
    assert allowed(render(*EVERYTHING)) == {
        *((name, *STORES[name]) for name in SERVICES),
        *((f"{name}-migrate", *STORES[name]) for name in SERVICES),
        *((name, "redis", 6379) for name in SERVICES),
        *((client, "auth", port) for client in ("booking", "notification") for port in (8000, 9000)),
        ("auth", "booking", 9000),
        *((client, name, 8000) for client in ("ingress-nginx", "smoke-test") for name in SERVICES),
    }


def test_everything_else_is_shut() -> None:
    deny = of_kind(render(), "NetworkPolicy")["test-deny"]["spec"]
    assert deny == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/instance": "test"}},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_stores_outside_are_reached_at_their_networks_only() -> None:
    policies = of_kind(render(values="k8s/values-production.yaml"), "NetworkPolicy")
    rules = policies["test-auth"]["spec"]["egress"]
    blocks = {
        (peer["ipBlock"]["cidr"], rule["ports"][0]["port"])
        for rule in rules
        for peer in rule["to"]
        if "ipBlock" in peer
    }
    assert blocks == {("10.20.0.0/24", 5432), ("10.20.1.0/24", 6379)}


def test_no_secret_is_rendered_where_one_is_given() -> None:
    assert not of_kind(render(values="k8s/values-production.yaml"), "Secret")
    rendered = text("global.existingSecrets.redis=mine")
    assert "test-redis" not in of_kind(yaml.safe_load_all(rendered), "Secret")
    assert "{secretKeyRef: {name: mine, key: REDIS_URL}}" in rendered


def test_a_pod_has_only_the_secrets_that_its_service_reads() -> None:
    def keys(name: str) -> set[str]:
        return {
            variable["valueFrom"]["secretKeyRef"]["key"]
            for variable in PODS[name]["containers"][0]["env"]
            if "valueFrom" in variable
        }

    from_booking, from_notification = "BOOKING_TO_AUTH_TOKEN", "NOTIFICATION_TO_AUTH_TOKEN"
    called_by_auth = {"REDIS_URL", "AUTH_TO_BOOKING_TOKEN", from_booking}
    assert keys("Deployment/test-auth") == called_by_auth | {"AUTH_DATABASE_URL", "AUTH_SECRET_KEY", from_notification}
    assert keys("Deployment/test-booking") == called_by_auth | {"BOOKING_DATABASE_URL"}
    assert keys("Deployment/test-notification") == {
        "MONGODB_URL",
        "REDIS_URL",
        "NOTIFICATION_SECRET_KEY",
        from_notification,
    }


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_the_generated_signing_keys_sign(helm: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = of_kind(render(helm=helm), "Secret")["test-platform"]["data"]["signing-keys.json"]
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_bytes(base64.b64decode(secret))
    keys = SigningKeys(path)
    kid, private = keys.signer()
    (published,) = json.loads(keys.public_document)["keys"]
    public = base64.urlsafe_b64encode(private.public_key().public_bytes_raw()).rstrip(b"=").decode()
    assert (published["kid"], published["x"]) == (kid, public)


def test_no_two_generated_secrets_are_the_same() -> None:
    secrets = of_kind(render(), "Secret")
    values = sorted(
        base64.b64decode(value).decode()
        for name in ("test-platform", "test-postgres")
        for value in secrets[name]["data"].values()
    )
    assert all(one != other for one, other in pairwise(values))
    assert min(len(value) for value in values) >= 24


def test_checkov_finds_nothing_but_what_is_waived_with_a_reason(tmp_path_factory: pytest.TempPathFactory) -> None:
    rendered = tmp_path_factory.mktemp("rendered") / "chart.yaml"
    rendered.write_text(text(*EVERYTHING))
    waivers = yaml.safe_load((ROOT / "tests/charts/checkov.yaml").read_text())
    command: list[str | Path] = [
        TOOLS / "python",
        TOOLS / "checkov",
        "--framework",
        "kubernetes",
        "--file",
        rendered,
        "--compact",
    ]
    command += ["--quiet", "--output", "json", "--skip-download"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 500
    found = [(one["check_id"], one["resource"]) for one in report["results"]["failed_checks"]]

    def covers(waiver: dict[str, str], check: str, resource: str) -> bool:
        return waiver["check"] == check and re.fullmatch(waiver["resources"], resource) is not None

    assert [one for one in found if not any(covers(waiver, *one) for waiver in waivers)] == []
    assert [waiver["check"] for waiver in waivers if not any(covers(waiver, *one) for one in found)] == []
