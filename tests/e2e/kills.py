"""Pods that are killed under load."""

from collections.abc import Callable

from tests.e2e.cluster import kubectl, pods, ready, until
from tests.e2e.load import LOAD


def killed(component: str, count: int) -> Callable[[], str]:
    """Make the step that kills every pod of a component, one after the other; `count` is how many it should have."""

    def step() -> str:
        with LOAD.running(retry="everything"):
            for pod in pods(component):
                name, killed_uid = pod["metadata"]["name"], pod["metadata"]["uid"]
                kubectl("delete", "pod", name, "--grace-period=0", "--force")

                def replaced(uid: str = killed_uid) -> bool:
                    return uid not in {one["metadata"]["uid"] for one in pods(component)} and ready(component, count)

                until(f"{name} is replaced", replaced, 180)
        return f"{LOAD.no_failures()} in the end; {LOAD.check()}"

    step.__name__ = f"killing_every_pod_of_{component}_loses_nothing"
    return step
