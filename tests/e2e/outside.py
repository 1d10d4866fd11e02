"""A second release beside the first, without stores and an ingress controller of its own."""

import json
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.cluster import (
    CHART,
    HELM3,
    NAMESPACE,
    RELEASE,
    ROOT,
    SERVICES,
    STORES,
    TEST_PASSED,
    Failed,
    apply,
    get,
    kubectl,
    run,
)
from tests.e2e.load import LOAD

_OUTSIDE = "outside"
_HOST = "booking.example.com"
# The one Secret that the first release's controller may read.
_CERTIFICATE = f"{RELEASE}-ingress-tls"


def _labels(release: str, component: str | None = None) -> dict[str, Any]:
    name = {"app.kubernetes.io/name": component} if component else {}
    return {"matchLabels": {"app.kubernetes.io/instance": release, **name}}


# The first release's policies do not know the second one, so an operator has to allow it.
_ADMISSION = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "admit-outside"},
    "spec": {
        "podSelector": _labels(RELEASE),
        "ingress": [{"from": [{"podSelector": _labels(_OUTSIDE)}]}],
        "egress": [{"to": [{"podSelector": _labels(_OUTSIDE)}]}],
        "policyTypes": ["Ingress", "Egress"],
    },
}
_VALUES: dict[str, Any] = {
    "global": {"existingSecrets": {name: f"{RELEASE}-{name}" for name in ("platform", *STORES)}},
    **{store: {"enabled": False} for store in STORES},
    "ingress-nginx": {"enabled": False},
    "ingress": {"className": f"{RELEASE}-nginx", "host": _HOST, "tls": {"secretName": _CERTIFICATE}},
    "networkPolicy": {"ingressFrom": [{"podSelector": _labels(RELEASE, "ingress-nginx")}]},
}


def a_release_without_stores_and_controller_uses_existing_ones() -> str:
    """Install by Helm 3 with existing secrets, behind the first one's controller, with its own host name."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate, values = (Path(folder, name) for name in ("tls.key", "tls.crt", "values.yaml"))
        run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={_HOST}",
            "-addext", f"subjectAltName=DNS:{_HOST}", "-keyout", key, "-out", certificate,
        )  # fmt: skip
        values.write_text(json.dumps(_VALUES))
        kubectl("delete", "secret", _CERTIFICATE, "--ignore-not-found")
        kubectl("create", "secret", "tls", _CERTIFICATE, f"--cert={certificate}", f"--key={key}")
        apply(_ADMISSION)
        files = ("--values", ROOT / "k8s/values-dev.yaml", "--values", values)
        _helm3("upgrade", "--install", _OUTSIDE, CHART, *files, "--wait", "--timeout", "180s")
        own = {item["metadata"]["name"] for item in get("statefulsets,secrets", "-l", _own())["items"]}
        if own:
            raise Failed(f"it has stores or secrets of its own: {own}")
        if TEST_PASSED not in _helm3("test", _OUTSIDE, "--logs", "--timeout", "120s"):
            raise Failed("its test did not report a booking")
        with _client(certificate) as client:
            for service in SERVICES:
                client.get(f"/api/health/{service}").raise_for_status()
            LOAD.sign_in()
            patient = LOAD.patients[0]
            appointments = (
                client.get("/api/appointments?limit=1", headers=patient.headers).raise_for_status().json()["items"]
            )
        if not appointments or appointments[0]["patientId"] != patient.id:
            raise Failed("an appointment of the first release is missing")
    _helm3("uninstall", _OUTSIDE, "--wait", "--timeout", "120s")
    kubectl(
        "delete",
        "pod,networkpolicy,secret",
        f"{_OUTSIDE}-smoke-test",
        "admit-outside",
        _CERTIFICATE,
        "--ignore-not-found",
    )
    return ""


def _own() -> str:
    return f"app.kubernetes.io/instance={_OUTSIDE}"


def _helm3(*arguments: str | Path) -> str:
    return run(HELM3, *arguments, "--namespace", NAMESPACE)


@contextmanager
def _client(certificate: Path) -> Iterator[httpx.Client]:
    """Yield a client of https://booking.example.com at the first release's controller."""
    command = ["kubectl", "--namespace", NAMESPACE, "port-forward", f"service/{RELEASE}-ingress-nginx", ":443"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            port = forward.stdout.readline().split(":")[1].split()[0]
            with httpx.Client(
                base_url=f"https://127.0.0.1:{port}",
                verify=ssl.create_default_context(cafile=str(certificate)),
                headers={"Host": _HOST},
                trust_env=False,
            ) as client:
                client.get("/api/health", extensions={"sni_hostname": _HOST}).raise_for_status()
                yield client
        finally:
            forward.terminate()
