"""Which pods can open connections to which, tried from inside the pods."""

import time
from typing import Any

import yaml

from tests.e2e.cluster import CHART, IMAGES, RELEASE, SERVICES, STORES, Failed, apply, get, inside, kubectl, pods

_PORTS = {
    **dict.fromkeys(SERVICES, (8000, 9000)),
    "postgres": (5432,),
    "redis": (6379,),
    "mongodb": (27017,),
    "ingress-nginx": (8080,),
}
_CONTAINERS = {name: name for name in (*SERVICES, *STORES)} | {"ingress-nginx": "controller"}
_STRANGER = "stranger"


def every_allowed_connection_is_open_and_every_other_closed() -> str:
    """Try from every component, from stand-ins for jobs that have ended, and from a pod outside the release."""
    allowed: dict[str, dict[str, list[int]]] = yaml.safe_load((CHART / "files/connections.yaml").read_text())
    targets = [
        (f"{name}:{port}", pods(name)[0]["status"]["podIP"], port) for name, ports in _PORTS.items() for port in ports
    ]
    dns = get("pods", "--namespace", "kube-system", "--selector", "k8s-app=kube-dns")["items"][0]
    targets.append(("elsewhere", dns["status"]["podIP"], 8181))

    expected = {client: {f"{one}:{port}" for one, ports in servers.items() for port in ports}
                for client, servers in allowed.items()}  # fmt: skip
    expected |= {store: set() for store in STORES}
    expected[_STRANGER] = {"ingress-nginx:8080", "elsewhere"}

    stand_ins = expected.keys() - _CONTAINERS.keys()
    apply(*(_stand_in(name) for name in stand_ins))
    tried = 0
    try:
        kubectl("wait", "--for", "condition=ready", "pod", "--selector", "e2e=stand-in", "--timeout", "60s")
        for client, reached in expected.items():
            others = [target for target in targets if not target[0].startswith(f"{client}:")]
            _require_only(client, client in stand_ins, others, reached)
            tried += len(others)
    finally:
        kubectl("delete", "pod", "--selector", "e2e=stand-in", "--grace-period=0", "--force")
    return f"{len(expected)} clients, {tried} connections tried"


def _require_only(client: str, stand_in: bool, targets: list[tuple[str, str, int]], expected: set[str]) -> None:
    pod, container = (
        (f"stand-in-{client}", "stand-in") if stand_in else (pods(client)[0]["metadata"]["name"], _CONTAINERS[client])
    )
    script = "".join(
        f"(timeout 3 bash -c 'exec 3<>/dev/tcp/{ip}/{port}' 2>/dev/null && echo '{name}') & "
        for name, ip, port in targets
    )
    # Network policies apply to a new pod a moment after it starts.
    for pause in (2, 5, 0):
        found = set(inside(pod, container, f"{script} wait").splitlines())
        if found == expected:
            return
        time.sleep(pause)
    raise Failed(f"{client}: open but not allowed {found - expected}, allowed but closed {expected - found}")


def _stand_in(client: str) -> dict[str, Any]:
    """Describe a pod with the labels by which the policies recognize `client`."""
    labels = {"e2e": "stand-in"}
    if client != _STRANGER:
        labels |= {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/name": client}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"stand-in-{client}", "labels": labels},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "stand-in",
                    "image": IMAGES["auth"],
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "600"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
