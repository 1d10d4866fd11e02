"""Tilt's and skaffold's files, compared with the Dockerfile and the chart."""

import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from tests.charts.rendering import ROOT, SERVICES, VALUES, pod_specs, render

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
COMPOSE_BUILDS = [one["build"] for one in COMPOSE["services"].values() if "build" in one]
SKAFFOLD = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
PID_FILE = "/tmp/server.pid"  # noqa: S108 - in a container of its own
RESTART = f"kill $(cat {PID_FILE})"
REGISTRY = "ghcr.io/example/booking-platform"


def code_mount(service: str) -> str:
    """Return the folder from which a running pod of values-dev.yaml reads changed code."""
    (container,) = pod_specs(render(values=VALUES["dev"]))[f"Deployment/test-{service}"]["containers"]
    assert f"service serve & echo $! >{PID_FILE};" in container["command"][-1]
    (path,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "code")
    return str(path)


def copied(service: str) -> set[str]:
    """Return what the Dockerfile copies from its context."""
    found = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return {path.replace("${SERVICE}", service) for path in found}


def tilt() -> dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Return the calls of the Tiltfile, whose language is a part of Python."""
    calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    def noting(name: str) -> Callable[..., object]:
        def call(*arguments: Any, **options: Any) -> object:
            calls.setdefault(name, []).append((arguments, options))
            return name, *arguments

        return call

    names = ("load", "docker_build", "sync", "run", "k8s_yaml", "helm_resource")
    exec((ROOT / "Tiltfile").read_text(), {name: noting(name) for name in names})  # noqa: S102
    return calls


@pytest.mark.parametrize("service", SERVICES)
def test_tilt_builds_what_the_dockerfile_needs_and_copies_code_to_where_it_runs(service: str) -> None:
    (build,) = (options for (image, _), options in tilt()["docker_build"] if image == f"{REGISTRY}/{service}")
    assert build["build_args"] == {"SERVICE": service}
    assert build["secret"] == "id=ca,env=BUILD_CA"
    assert set(build["only"]) == copied(service)
    assert all((ROOT / path).exists() for path in build["only"])
    assert build["live_update"] == [("sync", "services", code_mount(service)), ("run", RESTART)]


def test_tilt_installs_the_chart_with_its_images() -> None:
    (((name, chart), options),) = tilt()["helm_resource"]
    assert (name, chart) == ("booking", "charts/booking-platform")
    assert options["flags"] == [f"--values={VALUES['dev']}"]
    assert options["deps"] == [chart, VALUES["dev"]]
    assert options["namespace"] == yaml.safe_load((ROOT / "k8s/namespace.yaml").read_text())["metadata"]["name"]
    for image, key in zip(options["image_deps"], options["image_keys"], strict=True):
        uses(image.rpartition("/")[2], key)


@pytest.mark.parametrize("service", SERVICES)
def test_skaffold_builds_each_image_and_copies_code_to_where_it_runs(service: str) -> None:
    (artifact,) = (one for one in SKAFFOLD["build"]["artifacts"] if one["image"] == f"{REGISTRY}/{service}")
    assert SKAFFOLD["build"]["local"]["useBuildkit"] is True
    assert artifact["docker"] == {"buildArgs": {"SERVICE": service}, "secrets": [{"id": "ca", "env": "BUILD_CA"}]}
    (rule,) = artifact["sync"]["manual"]
    assert artifact["sync"]["hooks"]["after"] == [{"container": {"command": ["sh", "-c", RESTART]}}]
    file = PurePosixPath("services/kit/http/service.py")
    assert fnmatch(str(file), rule["src"])
    assert rule["dest"] / PurePosixPath(file.parts[0]) == PurePosixPath(code_mount(service))


def test_skaffold_installs_the_chart_with_its_images() -> None:
    (release,) = SKAFFOLD["deploy"]["helm"]["releases"]
    assert (ROOT / release["chartPath"] / "Chart.yaml").exists()
    assert release["valuesFiles"] == [VALUES["dev"]]
    for key, template in release["setValueTemplates"].items():
        service = key.partition(".")[0]
        variable = re.sub(r"\W", "_", f"IMAGE_FULLY_QUALIFIED_{REGISTRY}/{service}")
        assert template == f"{{{{.{variable}}}}}"
        uses(service, key)
    assert len(release["setValueTemplates"]) == len(SERVICES)


def test_skaffolds_profile_and_compose_build_images_with_opentelemetry() -> None:
    (profile,) = SKAFFOLD["profiles"]
    patched = {patch["path"]: patch["value"] for patch in profile["patches"]}
    artifacts = range(len(SKAFFOLD["build"]["artifacts"]))
    assert patched == {f"/build/artifacts/{number}/docker/buildArgs/OPENTELEMETRY": "1" for number in artifacts}
    builds = [one["args"] for one in COMPOSE_BUILDS]
    assert builds == [{"SERVICE": service, "OPENTELEMETRY": "${OPENTELEMETRY:-}"} for service in SERVICES]
    assert "ARG OPENTELEMETRY=\n" in (ROOT / "Dockerfile").read_text()


def test_compose_hands_the_authorities_to_each_build_as_a_secret() -> None:
    assert COMPOSE["secrets"] == {"ca": {"environment": "BUILD_CA"}}
    assert [one["secrets"] for one in COMPOSE_BUILDS] == [["ca"]] * len(SERVICES)


def uses(service: str, key: str) -> None:
    """Check that the value `key` names the image that the service runs."""
    specs = pod_specs(render(f"{key}=registry.example.com/built:1", values=VALUES["dev"]))
    (container,) = specs[f"Deployment/test-{service}"]["containers"]
    assert container["image"] == "registry.example.com/built:1"
