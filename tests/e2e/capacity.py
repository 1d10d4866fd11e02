"""Memory and autoscaling under load. These steps do not require that a small machine answers every request."""

import time

from tests.e2e.cluster import RELEASE, SERVICES, Failed, kubectl, pods, ready, until, upgrade
from tests.e2e.load import LOAD


def memory_stays_within_its_limits() -> str:
    time.sleep(40)
    rest = _memory()
    with LOAD.running(per_second=100):
        time.sleep(60)
        busy = _memory()
    restarts = [
        pod["metadata"]["name"]
        for name in SERVICES
        for pod in pods(name)
        if pod["status"]["containerStatuses"][0]["restartCount"]
    ]
    if restarts:
        raise Failed(f"restarted: {restarts}")
    return f"MiB at rest: {rest}; at 100 requests/s: {busy}; {LOAD.summary()}"


def _memory() -> str:
    """Return the MiB that the largest pod of each component uses."""
    found: dict[str, int] = {}
    for line in kubectl("top", "pods", "--no-headers").splitlines():
        name, _, used = line.split()
        component = name.removeprefix(f"{RELEASE}-").split("-")[0]
        found[component] = max(found.get(component, 0), int(used.removesuffix("Mi")))
    return ", ".join(f"{name} {used}" for name, used in sorted(found.items()))


def load_adds_pods() -> str:
    upgrade(
        "booking.autoscaling.enabled=true", "booking.autoscaling.maxReplicas=3", "booking.autoscaling.cpuPercent=20"
    )
    with LOAD.running(per_second=50):
        began = time.monotonic()
        until("a third pod of booking", lambda: ready("booking", 3), 240)
        seconds = time.monotonic() - began
    upgrade("booking.autoscaling.enabled=false")
    until("two pods again", lambda: ready("booking", 2))
    return f"within {seconds:.0f} s; {LOAD.summary()}"
