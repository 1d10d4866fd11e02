"""What a pod may do on its node and to the API server."""

import json
import re
import subprocess

import pytest
import yaml

from tests.charts.rendering import EVERYTHING, ROOT, TOOLS, containers, pod_specs, render, text

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
def test_every_container_has_requests_and_limits(name: str) -> None:
    for container in containers(PODS[name]):
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
    for volume in PODS[name].get("volumes", []):
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("name", PODS)
def test_no_pod_is_given_a_token_of_the_api_server(name: str) -> None:
    """Neither automatically nor by a volume; the ingress controller's own container is the one exception."""
    spec = PODS[name]
    assert spec["automountServiceAccountToken"] is False
    tokens = {volume["name"] for volume in spec.get("volumes", []) if "serviceAccountToken" in str(volume)}
    holders = {
        container["name"]
        for container in containers(spec)
        for mount in container.get("volumeMounts", [])
        if mount["name"] in tokens or "/secrets/kubernetes.io" in mount["mountPath"]
    }
    if name == "Deployment/test-ingress-nginx":
        assert (tokens, holders) == ({"token"}, {"controller"})
    else:
        assert (tokens, holders) == (set(), set())


@pytest.mark.parametrize("name", PODS)
def test_a_pod_mounts_only_kinds_of_volumes_that_the_chart_needs(name: str) -> None:
    for volume in PODS[name].get("volumes", []):
        (kind,) = volume.keys() - {"name"}
        allowed = {"emptyDir", "secret", "configMap"}
        if "ingress-nginx" in name:
            allowed.add("projected")
        if name.startswith("CronJob/"):
            allowed.add("persistentVolumeClaim")
        assert kind in allowed, volume


def test_no_service_account_mounts_its_token_and_each_workload_has_its_own() -> None:
    objects = render(*EVERYTHING)
    accounts = [one for one in objects if one["kind"] == "ServiceAccount"]
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    used = [spec["serviceAccountName"] for name, spec in PODS.items() if name.startswith(("Deployment", "StatefulSet"))]
    assert len(used) == len(set(used)) == 7
    assert {account["metadata"]["name"] for account in accounts} == set(used)


def test_checkov_finds_nothing_but_what_is_waived_with_a_reason(tmp_path_factory: pytest.TempPathFactory) -> None:
    rendered = tmp_path_factory.mktemp("rendered") / "chart.yaml"
    rendered.write_text(text(*EVERYTHING))
    waivers = yaml.safe_load((ROOT / "tests/charts/checkov.yaml").read_text())
    options = ["--framework", "kubernetes", "--compact", "--quiet", "--output", "json", "--skip-download"]
    done = subprocess.run(
        [TOOLS / "python", TOOLS / "checkov", "--file", rendered, *options],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 500
    found = [(one["check_id"], one["resource"]) for one in report["results"]["failed_checks"]]

    def covers(waiver: dict[str, str], check: str, resource: str) -> bool:
        return waiver["check"] == check and re.fullmatch(waiver["resources"], resource) is not None

    assert [one for one in found if not any(covers(waiver, *one) for waiver in waivers)] == []
    assert [waiver["check"] for waiver in waivers if not any(covers(waiver, *one) for one in found)] == []
