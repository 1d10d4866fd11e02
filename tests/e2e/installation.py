"""A release comes, is used, is developed in, and goes."""

import json
import os
import shlex
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import httpx
import yaml

from services.kit.http.service import VERSION
from tests.e2e.cluster import (
    CHART,
    HELM,
    IMAGES,
    NAMESPACE,
    ORIGIN,
    RELEASE,
    ROOT,
    SERVICES,
    STORES,
    Failed,
    build_image,
    get,
    helm,
    inside,
    install,
    kubectl,
    pods,
    ready,
    run,
    secret,
    until,
    upgrade,
)
from tests.e2e.load import LOAD

_HTTP_ROUTES = ROOT / "tests/charts/crds/httproute.yaml"


def images_are_built() -> str:
    if "--no-build" in sys.argv:
        return "left as they are"
    for service, tag in IMAGES.items():
        build_image(tag, ROOT, "--build-arg", f"SERVICE={service}")
    return ""


def one_release_is_the_platform() -> str:
    run(HELM, "uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait", timeout=180)
    run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    namespace = yaml.safe_load((ROOT / "k8s/namespace.yaml").read_text())
    namespace["metadata"]["name"] = NAMESPACE
    run("kubectl", "apply", "-f", "-", stdin=json.dumps(namespace))
    install()
    until("the ingress answers", lambda: httpx.get(f"{ORIGIN}/api/health", trust_env=False).status_code == 200, 30)
    return f"from start to ready: {_start_to_ready()}; images: {_image_sizes()}"


def _start_to_ready() -> str:
    """Seconds from a container's start to its pod being ready, the slowest of each component."""

    def seconds(pod: Any) -> float:
        (begun,) = (one["state"]["running"]["startedAt"] for one in pod["status"]["containerStatuses"])
        (done,) = (one["lastTransitionTime"] for one in pod["status"]["conditions"] if one["type"] == "Ready")
        return (datetime.fromisoformat(done) - datetime.fromisoformat(begun)).total_seconds()

    return ", ".join(f"{name} {max(map(seconds, pods(name))):.0f} s" for name in (*SERVICES, *STORES))


def _image_sizes() -> str:
    """As the node keeps them, compressed."""
    sizes = {
        name: image["sizeBytes"]
        for node in get("nodes")["items"]
        for image in node["status"]["images"]
        for name in image.get("names") or ()
    }
    return ", ".join(f"{name} {sizes[tag] / 1e6:.0f} MB" for name, tag in IMAGES.items() if tag in sizes)


def an_image_has_its_service_and_nothing_to_install_with() -> str:
    look = (
        "import importlib.util, json, os, shutil; print(json.dumps([os.getuid(), os.listdir('/srv/services'), "
        "[tool for tool in ('pip', 'pip3', 'gcc', 'cc', 'make') if shutil.which(tool)], "
        "[module for module in ('pip', 'ensurepip') if importlib.util.find_spec(module)]]))"
    )
    for service in SERVICES:
        name = pods(service)[0]["metadata"]["name"]
        uid, parts, tools, modules = json.loads(inside(name, service, f'python -c "{look}"'))
        others = set(parts) - {"__init__.py", "__pycache__", "contracts", "kit", service}
        if uid < 10000 or others or tools or modules:
            raise Failed(f"{service}: user {uid}, {others}, {tools}, {modules}")
    return ""


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


def a_live_event_passes_the_ingress_at_once() -> str:
    """A proxy that buffers keeps it until there are kilobytes, or until the stream ends."""
    LOAD.sign_in()
    doctor = LOAD.doctors[0]
    path = f"/api/notifications/{doctor.id}/stream"
    with LOAD.client() as client, client.stream("GET", path, headers=doctor.headers) as stream:
        visit, booked = LOAD.book(client, doctor), time.monotonic()
        for line in stream.iter_lines():
            if line.startswith("data:") and visit in line:
                break
            if time.monotonic() > booked + 10:
                raise Failed("not within 10 s")
        return f"after {(time.monotonic() - booked) * 1000:.0f} ms"


def changed_code_reaches_a_running_pod() -> str:
    """As Tilt and skaffold do it: a file into the container, and a signal to its server."""
    upgrade("global.liveUpdate=true")
    until("new pods", lambda: ready("notification", 2))
    name = pods("notification")[0]["metadata"]["name"]
    code = (ROOT / "services/kit/http/service.py").read_text().replace(f'VERSION = "{VERSION}"', 'VERSION = "changed"')
    script = "cat >/srv/services/kit/http/service.py && kill $(cat /tmp/server.pid)"
    kubectl("exec", "--stdin", name, "--container", "notification", "--", "sh", "-c", script, stdin=code)
    look = "exec 3<>/dev/tcp/127.0.0.1/8000; printf 'GET /api/health HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    until("the changed code answers", lambda: '"changed"' in _said(name, look), 60)
    (container,) = get("pod", name)["status"]["containerStatuses"]
    if container["restartCount"]:
        raise Failed("its container was started anew")
    return ""


def _said(pod: str, script: str) -> str:
    try:
        return inside(pod, "notification", script)
    except Failed:
        return ""  # between two containers


def a_gateway_takes_the_routes() -> str:
    """By the rules of the Gateway API's own definition, which the API server knows and no schema says."""
    crd = "httproutes.gateway.networking.k8s.io"
    ours = crd not in run("kubectl", "get", "crds", "--output", "name")
    if ours:
        run("kubectl", "create", "-f", _HTTP_ROUTES)
        run("kubectl", "wait", "--for", "condition=established", f"crd/{crd}", "--timeout", "30s")
    try:
        sets = "gateway.enabled=true,gateway.parentRefs[0].name=public,gateway.hostnames[0]=booking.example.com"
        routes = run(HELM, "template", RELEASE, CHART, "--set", sets, "--show-only", "templates/routes.yaml")
        (route,) = (one for one in yaml.safe_load_all(routes) if one["kind"] == "HTTPRoute")
        kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(route))
    finally:
        if ours:
            run("kubectl", "delete", "crd", crd)
    return f"{len(route['spec']['rules'])} rules"


def uninstalling_leaves_what_it_says() -> str:
    notes = run(HELM, "get", "notes", RELEASE, "--namespace", NAMESPACE)
    run(HELM, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", timeout=180)
    test = f"{RELEASE}-smoke-test"
    until("all pods are gone", lambda: {one["metadata"]["name"] for one in get("pods")["items"]} <= {test})
    expected = {("Secret", f"{RELEASE}-{name}") for name in ("platform", *STORES)}
    expected |= {("PersistentVolumeClaim", f"data-{RELEASE}-{name}-0") for name in STORES}
    expected |= {("Pod", test)}
    if (left := _left()) != expected:
        raise Failed(f"left: {left - expected}, missing: {expected - left}")
    (command,) = (line for line in notes.splitlines() if "delete" in line and line.strip().startswith("kubectl"))
    run(*shlex.split(command))
    if left := _left():
        raise Failed(f"`{command.strip()}` leaves {left}")
    run("kubectl", "delete", "namespace", NAMESPACE, "--wait")
    return ""


def _left() -> set[tuple[str, str]]:
    own = "all,configmaps,secrets,pvc,ingresses,networkpolicies,serviceaccounts,roles,rolebindings,pdb,hpa,leases"
    items = get(own)["items"]
    items += get("ingressclasses,clusterroles,clusterrolebindings", "-l", f"app.kubernetes.io/instance={RELEASE}")[
        "items"
    ]
    names = {(item["kind"], item["metadata"]["name"]) for item in items}
    return names - {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}
