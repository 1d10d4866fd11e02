"""What is proven on a cluster, in this order. A step raises `Failed`, or gives a remark for the table."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import yaml

from tests.e2e.cluster import (
    CHART,
    HELM,
    NAMESPACE,
    RELEASE,
    ROOT,
    SERVICES,
    STORES,
    Failed,
    build_image,
    get,
    helm,
    install,
    kubectl,
    pods,
    ready,
    revision,
    rollback,
    run,
    secret,
    until,
    upgrade,
)
from tests.e2e.load import Load

ORIGIN = os.environ.get("E2E_URL", "http://localhost")
LOAD = Load(ORIGIN)


def no_failures() -> str:
    if LOAD.failures:
        raise Failed(f"{LOAD.failures.total()} of {LOAD.sent} requests failed: {LOAD.failures.most_common(4)}")
    return f"{LOAD.sent} requests, 0 failed"


def images_are_built() -> str:
    if "--no-build" in sys.argv:
        return "left as they are"
    for service in SERVICES:
        build_image(service)
    return ""


def one_release_is_the_platform() -> str:
    namespace = yaml.safe_load((ROOT / "k8s/namespace.yaml").read_text())
    namespace["metadata"]["name"] = NAMESPACE
    run("kubectl", "apply", "-f", "-", stdin=json.dumps(namespace))
    install()
    until("the ingress answers", lambda: httpx.get(f"{ORIGIN}/api/health", trust_env=False).status_code == 200, 30)
    return start_to_ready()


def start_to_ready() -> str:
    """Seconds from a container's start to its pod being ready, the slowest of each service."""

    def seconds(pod: dict[str, object]) -> float:
        status: dict[str, list[dict[str, dict[str, dict[str, str]]]]] = pod["status"]  # type: ignore[assignment]
        begun = status["containerStatuses"][0]["state"]["running"]["startedAt"]
        (done,) = (one["lastTransitionTime"] for one in status["conditions"] if one["type"] == "Ready")  # type: ignore[comparison-overlap]
        return _time(str(done)) - _time(str(begun))

    return ", ".join(f"{name} {max(map(seconds, pods(name))):.0f} s" for name in (*SERVICES, *STORES))


def _time(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def helm_test_books() -> str:
    if "booked, cancelled, told" not in helm("test", "--logs"):
        raise Failed("the test did not say that it booked")
    return ""


def the_demo_runs_through_the_ingress() -> str:
    url = httpx.URL(ORIGIN)
    environment = {
        **os.environ,
        "HOST": url.host,
        "PORT": str(url.port or 80),
        "ADMIN_PASSWORD": secret("platform")["ADMIN_PASSWORD"],
    }
    command = [sys.executable, "-m", "services.standalone", "demo"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(done.stdout[-1000:] + done.stderr[-1000:])
    return ""


def the_documents_come_with_their_assets() -> str:
    for service in SERVICES:
        page = httpx.get(f"{ORIGIN}/api/docs/{service}", trust_env=False, follow_redirects=True).raise_for_status()
        if "openapi" not in page.text.lower() and "swagger" not in page.text.lower():
            raise Failed(f"no document at /api/docs/{service}")
        httpx.get(f"{ORIGIN}/api/docs/{service}/openapi.json", trust_env=False).raise_for_status()
    return ""


def an_upgrade_fails_no_request() -> str:
    before = {name: secret(name) for name in ("platform", *STORES)}
    names = {pod["metadata"]["name"] for service in SERVICES for pod in pods(service)}
    with LOAD.running():
        upgrade(*(f"{service}.env.LOG_LEVEL=INFO" for service in SERVICES))
        until("two new pods each", lambda: all(ready(service, 2) for service in SERVICES))
    if names & {pod["metadata"]["name"] for service in SERVICES for pod in pods(service)}:
        raise Failed("a pod was not replaced")
    if before != {name: secret(name) for name in before}:
        raise Failed("the upgrade changed a generated secret")
    return no_failures()


def a_rollback_fails_no_request() -> str:
    with LOAD.running():
        rollback(str(int(revision()) - 1))
        until("two pods each", lambda: all(ready(service, 2) for service in SERVICES))
    return no_failures()


def scaling_to_three_and_back_fails_no_request() -> str:
    with LOAD.running():
        for replicas in (3, 2):
            upgrade(*(f"{service}.replicas={replicas}" for service in SERVICES))
            until("as many pods", lambda n=replicas: all(ready(service, n) for service in SERVICES))  # type: ignore[misc]
    return no_failures()


def load_adds_pods_by_itself() -> str:
    upgrade(
        "booking.autoscaling.enabled=true", "booking.autoscaling.maxReplicas=3", "booking.autoscaling.cpuPercent=20"
    )
    LOAD.per_second = 100
    with LOAD.running():
        until("a third pod of booking", lambda: ready("booking", 3), 240)
    LOAD.per_second = 20
    upgrade("booking.autoscaling.enabled=false")
    until("two pods again", lambda: ready("booking", 2))
    return no_failures()


def killed(component: str, count: int) -> Callable[[], str]:
    def step() -> str:
        with LOAD.running(retry=True):
            for pod in pods(component):
                name, killed_uid = pod["metadata"]["name"], pod["metadata"]["uid"]
                kubectl("delete", "pod", name, "--grace-period=0", "--force")

                def replaced(uid: str = killed_uid) -> bool:
                    return uid not in {one["metadata"]["uid"] for one in pods(component)} and ready(component, count)

                until(f"another pod for {name}", replaced, 180)
        no_failures()
        return LOAD.check()

    step.__name__ = f"killing_every_pod_of_{component}_loses_nothing"
    return step


def every_allowed_connection_is_open_and_every_other_shut() -> str:
    allowed = yaml.safe_load((CHART / "files/connections.yaml").read_text())
    address = {name: pods(name)[0]["status"]["podIP"] for name in (*SERVICES, *STORES)}
    ports = {**dict.fromkeys(SERVICES, (8000, 9000)), "postgres": (5432,), "redis": (6379,), "mongodb": (27017,)}
    targets = [(name, address[name], port) for name in address for port in ports[name]]
    dns = get("pods", "--namespace", "kube-system", "--selector", "k8s-app=kube-dns")["items"][0]["status"]["podIP"]
    targets.append(("elsewhere", dns, 8181))
    tried = 0
    for client in (*SERVICES, *STORES):
        pod = pods(client)[0]["metadata"]["name"]
        reach = "; ".join(
            f"(timeout 2 bash -c 'exec 3<>/dev/tcp/{ip}/{port}' 2>/dev/null && echo '{name}:{port}') &"
            for name, ip, port in targets
            if name != client
        )
        found = set(
            kubectl("exec", pod, "--container", client, "--", "bash", "-c", f"{reach.replace('&;', '&')} wait").split(
                "\n"
            )
        ) - {""}
        expected = {f"{server}:{port}" for server, ports_ in allowed.get(client, {}).items() for port in ports_}
        if found != expected:
            raise Failed(f"{client}: open and not allowed {found - expected}, allowed and not open {expected - found}")
        tried += len(targets)
    return f"{tried} connections tried"


def a_wrong_password_stops_a_rollout() -> str:
    # MongoDB's, because a migration gives PostgreSQL's application roles the passwords that their URLs have.
    url = f"MONGODB_URL=mongodb://root:wrong@{RELEASE}-mongodb:27017/notification?authSource=admin"
    kubectl("delete", "secret", "wrong", "--ignore-not-found")
    kubectl("create", "secret", "generic", "wrong", "--from-literal", url)
    names = {pod["metadata"]["name"] for pod in pods("notification")}
    before = revision()
    with LOAD.running():
        try:
            upgrade("notification.secretEnv.MONGODB_URL=wrong", timeout_seconds=40)
        except Failed:
            stopped = names <= {pod["metadata"]["name"] for pod in pods("notification")}
        else:
            stopped = False
        rollback(before)
        until("the old pods alone", lambda: ready("notification", 2))
    if not stopped:
        raise Failed("the rollout went on, or an old pod was taken away")
    kubectl("delete", "secret", "wrong")
    return no_failures()


def new_signing_keys_reject_nobody() -> str:
    name = f"{RELEASE}-platform"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keys.json")
        path.write_text(secret("platform")["signing-keys.json"])
        environment = {**os.environ, "AUTH_SIGNING_KEYS_FILE": str(path)}
        subprocess.run([sys.executable, "-m", "services.auth", "rotate-keys"], cwd=ROOT, env=environment, check=True)
        data = {"signing-keys.json": base64.b64encode(path.read_bytes()).decode()}
    with LOAD.running():
        kubectl("patch", "secret", name, "--patch", json.dumps({"data": data}))

        def published() -> int:
            document = httpx.get(f"{ORIGIN}/api/auth/.well-known/jwks.json", trust_env=False).raise_for_status()
            return len(document.json()["keys"])

        began = time.monotonic()
        until("the new key is published", lambda: published() == 2, 150)
        seconds = time.monotonic() - began
        # The new key signs a minute after it was made; tokens of both are used meanwhile.
        while time.monotonic() - began < seconds + 70:
            LOAD.sign_in()
            time.sleep(5)
    return f"published after {seconds:.0f} s; {no_failures()}"


def memory() -> str:
    """MiB of each component's largest pod."""
    found: dict[str, int] = {}
    for line in kubectl("top", "pods", "--no-headers").splitlines():
        name, _, used = line.split()
        component = name.removeprefix(f"{RELEASE}-").split("-")[0]
        found[component] = max(found.get(component, 0), int(used.removesuffix("Mi")))
    return ", ".join(f"{name} {used}" for name, used in sorted(found.items()))


def memory_stays_within_its_limits() -> str:
    time.sleep(40)
    rest = memory()
    LOAD.per_second = 100
    with LOAD.running():
        time.sleep(60)
        busy = memory()
    LOAD.per_second = 20
    restarts = [pod["metadata"]["name"] for name in SERVICES for pod in pods(name)
                if pod["status"]["containerStatuses"][0]["restartCount"]]  # fmt: skip
    if restarts:
        raise Failed(f"restarted: {restarts}")
    return f"MiB at rest: {rest}; at 100 requests/s: {busy}; {no_failures()}"


def uninstalling_leaves_what_it_says() -> str:
    run(HELM, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", timeout=180)
    kinds = "all,configmaps,secrets,pvc,ingresses,networkpolicies,serviceaccounts,roles,rolebindings,pdb,hpa"
    test = f"{RELEASE}-smoke-test"
    until("all pods are gone", lambda: {one["metadata"]["name"] for one in get("pods")["items"]} <= {test})
    left = {
        (item["kind"], item["metadata"]["name"])
        for item in get(kinds)["items"]
        if item["metadata"]["name"] not in ("default", "kube-root-ca.crt")
    }
    expected = {("Secret", f"{RELEASE}-{name}") for name in ("platform", *STORES)}
    expected |= {("Pod", test)}
    expected |= {("PersistentVolumeClaim", f"data-{RELEASE}-{name}-0") for name in STORES}
    if left != expected:
        raise Failed(f"left: {left - expected}, missing: {expected - left}")
    run("kubectl", "delete", "namespace", NAMESPACE, "--wait")
    return ""


STEPS: list[Callable[[], str]] = [
    images_are_built,
    one_release_is_the_platform,
    helm_test_books,
    the_demo_runs_through_the_ingress,
    the_documents_come_with_their_assets,
    an_upgrade_fails_no_request,
    a_rollback_fails_no_request,
    scaling_to_three_and_back_fails_no_request,
    every_allowed_connection_is_open_and_every_other_shut,
    a_wrong_password_stops_a_rollout,
    *(killed(name, 2) for name in SERVICES),
    *(killed(name, 1) for name in STORES),
    new_signing_keys_reject_nobody,
    memory_stays_within_its_limits,
    load_adds_pods_by_itself,
    uninstalling_leaves_what_it_says,
]
