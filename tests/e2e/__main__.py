"""`make e2e`: try the whole platform on a real cluster, print a table, and exit with 1 when a step failed.

ARGS: `--no-build` skips the build of the images; words choose the steps whose names contain them. A step that only met
503 answers of the services is repeated once, because an overloaded machine causes those, too. The table shows both
results, and the second one counts.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.e2e.cluster import Busy, Failed, kubectl
from tests.e2e.steps import FIRST, STEPS

NO_CLUSTER = """kubectl reaches no cluster. Create one and set KUBECONFIG, for example:
  kind create cluster --config k8s/kind.yaml"""


class Row(NamedTuple):
    name: str
    seconds: float
    result: str
    remark: str


def main() -> None:
    if not cluster_answers():
        sys.exit(NO_CLUSTER)
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    rows: list[Row] = []
    for step in (*FIRST, *STEPS):
        name = step.__name__.replace("_", " ")
        if wanted and not any(word in name for word in wanted):
            continue
        rows.append(play(step, name))
        if rows[-1].result == "repeated":
            rows.append(play(step, name, last=True))
        if rows[-1].result == "FAILED":
            print(state(), flush=True)
            if step in FIRST:
                break
    print("\n| step | seconds | | |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.name} | {row.seconds:.0f} | {row.result} | {row.remark} |")
    failed = sum(row.result == "FAILED" for row in rows)
    print(f"\n{len(rows) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


def cluster_answers() -> bool:
    try:
        return subprocess.run(["kubectl", "get", "nodes"], capture_output=True, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def play(step: Callable[[], str], name: str, *, last: bool = False) -> Row:
    began = time.monotonic()
    print(f"… {name}", flush=True)
    try:
        remark, result = step(), "ok"
    except Busy as error:
        remark, result = str(error), "FAILED" if last else "repeated"
    except Exception as error:
        remark, result = f"{type(error).__name__}: {error}", "FAILED"
    row = Row(name, time.monotonic() - began, result, " ".join(remark.split()))
    print(f"  {result}, {row.seconds:.0f} s {row.remark}", flush=True)
    return row


def state() -> str:
    """Describe the pods and the latest events, to explain a failure."""
    try:
        return kubectl("get", "pods,jobs", "--output", "wide") + kubectl("events")[-3000:]
    except (Failed, subprocess.SubprocessError) as error:
        return str(error)


main()
