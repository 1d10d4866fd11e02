"""A release is installed, used, developed in and uninstalled."""

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
    TEST_PASSED,
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
_CODE = "services/kit/http/service.py"


def images_are_built() -> str:
    if "--no-build" in sys.argv:
        return "not built"
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
    """Return the seconds from a container's start until its pod is ready, for the slowest pod of each component."""

    def seconds(pod: Any) -> float:
        (begun,) = (one["state"]["running"]["startedAt"] for one in pod["status"]["containerStatuses"])
        (done,) = (one["lastTransitionTime"] for one in pod["status"]["conditions"] if one["type"] == "Ready")
        return (datetime.fromisoformat(done) - datetime.fromisoformat(begun)).total_seconds()

    return ", ".join(f"{name} {max(map(seconds, pods(name))):.0f} s" for name in (*SERVICES, *STORES))


def _image_sizes() -> str:
    """Return the compressed sizes that the node reports."""
    sizes = {
        name: image["sizeBytes"]
        for node in get("nodes")["items"]
        for image in node["status"]["images"]
        for name in image.get("names") or ()
    }
    return ", ".join(f"{name} {sizes[tag] / 1e6:.0f} MB" for name, tag in IMAGES.items() if tag in sizes)


def an_image_holds_its_service_and_no_installer() -> str:
    script = (
        "import importlib.util, json, os, shutil; print(json.dumps([os.getuid(), os.listdir('/srv/services'), "
        "[tool for tool in ('pip', 'pip3', 'gcc', 'cc', 'make') if shutil.which(tool)], "
        "[module for module in ('pip', 'ensurepip') if importlib.util.find_spec(module)]]))"
    )
    for service in SERVICES:
        name = pods(service)[0]["metadata"]["name"]
        uid, parts, tools, modules = json.loads(inside(name, service, f'python -c "{script}"'))
        others = set(parts) - {"__init__.py", "__pycache__", "contracts", "kit", service}
        if uid < 10000 or others or tools or modules:
            raise Failed(f"{service} runs as user {uid} and has {others}, {tools}, {modules}")
    return ""


def helm_test_books_an_appointment() -> str:
    if TEST_PASSED not in helm("test", "--logs"):
        raise Failed("the test did not report a booking")
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


def the_api_documents_load_with_their_assets() -> str:
    for service in SERVICES:
        page = httpx.get(f"{ORIGIN}/api/docs/{service}", trust_env=False, follow_redirects=True).raise_for_status()
        if "openapi" not in page.text.lower() and "swagger" not in page.text.lower():
            raise Failed(f"no document at /api/docs/{service}")
        httpx.get(f"{ORIGIN}/api/docs/{service}/openapi.json", trust_env=False).raise_for_status()
    return ""


def a_path_that_no_service_has_is_a_problem_document() -> str:
    for path in ("/", "/nothing", "/api", "/api/nothing"):
        answer = httpx.get(f"{ORIGIN}{path}", trust_env=False)
        if answer.status_code != 404 or answer.headers["Content-Type"] != "application/problem+json":
            raise Failed(f"{path}: {answer.status_code}, {answer.headers['Content-Type']}")
        httpx.get(f"{ORIGIN}{answer.json()['type']}", trust_env=False).raise_for_status()
    return ""


def a_live_event_passes_the_ingress_immediately() -> str:
    """Fail when the ingress buffers: it would hold the event until it has kilobytes, or until the stream ends."""
    LOAD.sign_in()
    doctor = LOAD.doctors[0]
    path = f"/api/notifications/{doctor.id}/stream"
    with LOAD.client() as client, client.stream("GET", path, headers=doctor.headers) as stream:
        appointment, booked_at = LOAD.book(client, doctor), time.monotonic()
        for line in stream.iter_lines():
            if line.startswith("data:") and appointment in line:
                break
            if time.monotonic() > booked_at + 10:
                raise Failed("not within 10 s")
        return f"after {(time.monotonic() - booked_at) * 1000:.0f} ms"


def changed_code_reaches_a_running_pod() -> str:
    """Copy a file into the container and signal its server, as Tilt and skaffold do."""
    upgrade("global.liveUpdate=true")
    until("new pods", lambda: ready("notification", 2))
    name = pods("notification")[0]["metadata"]["name"]
    code = (ROOT / _CODE).read_text().replace(f'VERSION = "{VERSION}"', 'VERSION = "changed"')
    script = f"cat >/srv/{_CODE} && kill $(cat /tmp/server.pid)"
    kubectl("exec", "--stdin", name, "--container", "notification", "--", "sh", "-c", script, stdin=code)
    request = "exec 3<>/dev/tcp/127.0.0.1/8000; printf 'GET /api/health HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    until("the changed code answers", lambda: '"changed"' in _output(name, request), 60)
    (container,) = get("pod", name)["status"]["containerStatuses"]
    if container["restartCount"]:
        raise Failed("the container was restarted")
    return ""


def _output(pod: str, script: str) -> str:
    try:
        return inside(pod, "notification", script)
    except Failed:
        return ""  # the server is restarting


def a_gateway_accepts_the_routes() -> str:
    """Have the API server validate the routes by the rules in the Gateway API's own definition, which no schema has."""
    crd = "httproutes.gateway.networking.k8s.io"
    missing = crd not in run("kubectl", "get", "crds", "--output", "name")
    if missing:
        run("kubectl", "create", "-f", _HTTP_ROUTES)
        run("kubectl", "wait", "--for", "condition=established", f"crd/{crd}", "--timeout", "30s")
    try:
        sets = "gateway.enabled=true,gateway.parentRefs[0].name=public,gateway.hostnames[0]=booking.example.com"
        routes = run(HELM, "template", RELEASE, CHART, "--set", sets, "--show-only", "templates/routes.yaml")
        (route,) = (one for one in yaml.safe_load_all(routes) if one["kind"] == "HTTPRoute")
        kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(route))
    finally:
        if missing:
            run("kubectl", "delete", "crd", crd)
    return f"{len(route['spec']['rules'])} rules"


def uninstalling_leaves_what_the_notes_list() -> str:
    notes = run(HELM, "get", "notes", RELEASE, "--namespace", NAMESPACE)
    run(HELM, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", timeout=180)
    test = f"{RELEASE}-smoke-test"
    until("all pods are gone", lambda: {one["metadata"]["name"] for one in get("pods")["items"]} <= {test})
    expected = {("Secret", f"{RELEASE}-{name}") for name in ("platform", *STORES)}
    expected |= {("PersistentVolumeClaim", f"data-{RELEASE}-{name}-0") for name in STORES}
    expected |= {("Pod", test)}
    if (left := _objects()) != expected:
        raise Failed(f"left: {left - expected}, missing: {expected - left}")
    (command,) = (line for line in notes.splitlines() if "delete" in line and line.strip().startswith("kubectl"))
    run(*shlex.split(command))
    if left := _objects():
        raise Failed(f"`{command.strip()}` leaves {left}")
    run("kubectl", "delete", "namespace", NAMESPACE, "--wait")
    return ""


def _objects() -> set[tuple[str, str]]:
    """Return kind and name of every object of the release."""
    kinds = "all,configmaps,secrets,pvc,ingresses,networkpolicies,serviceaccounts,roles,rolebindings,pdb,hpa,leases"
    items = get(kinds)["items"]
    items += get("ingressclasses,clusterroles,clusterrolebindings", "-l", f"app.kubernetes.io/instance={RELEASE}")[
        "items"
    ]
    names = {(item["kind"], item["metadata"]["name"]) for item in items}
    return names - {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}
