"""Commands of kubectl and Helm, on the cluster that KUBECONFIG names."""

import base64
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/booking-platform"
HELM = ROOT / ".tools/bin/helm4"
HELM3 = ROOT / ".tools/bin/helm3"
ORIGIN = os.environ.get("E2E_URL", "http://localhost")
NAMESPACE = "booking-e2e"
RELEASE = "e2e"
SERVICES = ("auth", "booking", "notification")
STORES = ("postgres", "redis", "mongodb")
REGISTRY = "ghcr.io/example/booking-platform"
IMAGES = {service: f"{REGISTRY}/{service}:dev" for service in SERVICES}
# The last line of the chart's `helm test`.
TEST_PASSED = "booked, cancelled, notified"


class Failed(Exception):
    """A step failed; the message says how."""


class Busy(Failed):
    """A client without retry got 503, and nothing else went wrong. An overloaded machine causes that, too."""


def run(*command: str | Path, timeout: float = 300, stdin: str | None = None) -> str:
    """Run a command and return what it prints. Raise `Failed`, with its output, when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, input=stdin)
    if done.returncode:
        raise Failed(f"{shlex.join(map(str, command))}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    return run("kubectl", "--namespace", NAMESPACE, *arguments, stdin=stdin)


def apply(*objects: dict[str, Any]) -> None:
    kubectl("apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def inside(pod: str, container: str, script: str) -> str:
    """Run a script in a container and return what it prints."""
    return kubectl("exec", pod, "--container", container, "--", "bash", "-c", script)


def get(*arguments: str) -> Any:
    return json.loads(kubectl("get", *arguments, "--output", "json"))


def pods(component: str, release: str = RELEASE) -> list[Any]:
    """Return the pods that run and are not being deleted."""
    selector = f"app.kubernetes.io/instance={release},app.kubernetes.io/name={component}"
    found: list[Any] = get("pods", "--selector", selector)["items"]
    return [
        pod for pod in found if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


def helm(command: str, *arguments: str, timeout_seconds: int = 240) -> str:
    return run(
        HELM, command, RELEASE, *arguments, "--namespace", NAMESPACE, "--timeout", f"{timeout_seconds}s",
        timeout=timeout_seconds + 30,
    )  # fmt: skip


def upgrade(*sets: str, timeout_seconds: int = 240) -> None:
    """Upgrade to the values of the last revision with these changes."""
    changes = [part for one in sets for part in ("--set", one)]
    helm("upgrade", str(CHART), "--reuse-values", "--wait", *changes, timeout_seconds=timeout_seconds)


def revision() -> str:
    """Return the release's revision, for a later `rollback`."""
    status = run(HELM, "status", RELEASE, "--namespace", NAMESPACE, "--output", "json")
    return str(json.loads(status)["version"])


def rollback(to: str) -> None:
    helm("rollback", to, "--wait")


def install() -> None:
    """Install with the development values, those that the steps need, and the files that E2E_VALUES names."""
    files = [ROOT / "k8s/values-dev.yaml", ROOT / "tests/e2e/values.yaml", *os.environ.get("E2E_VALUES", "").split()]
    helm("install", str(CHART), "--wait", *(part for file in files for part in ("--values", str(file))))


def secret(name: str) -> dict[str, str]:
    data = get("secret", f"{RELEASE}-{name}")["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def until(event: str, condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Poll until the condition is true, and return its value. Raise `Failed` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds:.0f} s: {event}")
        time.sleep(0.5)
    return found


def ready(component: str, count: int) -> bool:
    """Return whether exactly `count` pods of the component run and all of them are ready."""
    running = pods(component)
    conditions = [
        condition["status"]
        for pod in running
        for condition in pod["status"]["conditions"]
        if condition["type"] == "Ready"
    ]
    return conditions == ["True"] * count


def build_image(tag: str, context: Path, *options: str) -> None:
    """Build an image and make it available to the cluster.

    IMAGE_BUILD is the command for both; it takes TAG CONTEXT [options]. Without it, Docker builds and kind loads.
    """
    command = shlex.split(os.environ.get("IMAGE_BUILD", ""))
    if command:
        run(*command, tag, context, *options, timeout=900)
        return
    run("docker", "build", "--tag", tag, *options, context, timeout=900)
    run("kind", "load", "docker-image", tag, "--name", "booking", timeout=300)
