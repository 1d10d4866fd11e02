"""The chart as Helm renders it."""

import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/booking-platform"
TOOLS = ROOT / ".tools/bin"
HELMS = ("helm3", "helm4")
SERVICES = ("auth", "booking", "notification")
STORES = ("postgres", "redis", "mongodb")
VALUES = {"default": "", "dev": "k8s/values-dev.yaml", "production": "k8s/values-production.yaml"}

Object = dict[str, Any]
# Values that render every optional object.
EVERYTHING = (
    "gateway.enabled=true",
    "gateway.parentRefs[0].name=gateway",
    "global.internalTls=true",
    "global.auditExpiry.claim=audit",
    "global.tracing.endpoint=http://collector.monitoring:4318",
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboard.enabled=true",
    *(f"{service}.autoscaling.enabled=true" for service in SERVICES),
    "postgres.maxConnections=500",
    "ingress.tls.secretName=tls",
    "ingress.tls.clusterIssuer=issuer",
)
# Values of a release without a store.
OUTSIDE = tuple(
    part for store in STORES for part in (f"{store}.enabled=false", f"global.existingSecrets.{store}=theirs")
)


class Refused(Exception):
    """Helm renders nothing; the message is Helm's."""


@cache
def text(
    *sets: str, json: str = "", values: str = "", helm: str = "helm4", release: str = "test", api: str = ""
) -> str:
    """Render for the namespace `booking`, a cluster with `api`; `sets` as for `--set`, `json` as for `--set-json`."""
    command = [str(TOOLS / helm), "template", release, str(CHART), "--namespace", "booking"]
    command += [part for one in sets for part in ("--set", one)]
    command += ["--set-json", json] if json else []
    command += ["--api-versions", api] if api else []
    command += ["--values", str(ROOT / values)] if values else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(*sets: str, **options: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text(*sets, **options)) if one]


def of_kind(objects: Iterable[Object], *kinds: str) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] in kinds}


def pods(objects: Iterable[Object]) -> dict[str, Object]:
    """Return the metadata and specifications of all pods by kind and name, test pods included."""
    found = {}
    for one in objects:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Pod":
            found[name] = one
        elif one["kind"] == "CronJob":
            found[name] = one["spec"]["jobTemplate"]["spec"]["template"]
        elif "template" in one.get("spec", {}):
            found[name] = one["spec"]["template"]
    return found


def pod_specs(objects: Iterable[Object]) -> dict[str, Object]:
    return {name: pod["spec"] for name, pod in pods(objects).items()}


def containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def secret_keys(container: Object) -> set[tuple[str, str]]:
    """Return the Secrets and keys behind the container's environment."""
    sources = [variable.get("valueFrom", {}) for variable in container.get("env", [])]
    references = [source["secretKeyRef"] for source in sources if "secretKeyRef" in source]
    return {(one["name"], one["key"]) for one in references}
