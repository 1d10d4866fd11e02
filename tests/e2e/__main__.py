"""The whole platform on a real cluster: `make e2e`. Ends with a table, and with 1 when a step failed.

ARGS: `--no-build` takes the images as they are; words choose steps by parts of their names.
"""

import subprocess
import sys
import time

import httpx

from tests.e2e.cluster import Failed
from tests.e2e.steps import STEPS

NO_CLUSTER = """No cluster answers to kubectl. Make one and say where it is, for example:
  kind create cluster --config k8s/kind.yaml"""


def main() -> None:
    try:
        found = (
            subprocess.run(["kubectl", "get", "nodes"], capture_output=True, check=False, timeout=20).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        found = False
    if not found:
        sys.exit(NO_CLUSTER)
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    rows, failed = [], False
    for step in STEPS:
        name = step.__name__.replace("_", " ")
        if wanted and not any(word in name for word in wanted):
            continue
        began = time.monotonic()
        print(f"… {name}", flush=True)
        try:
            remark, result = step(), "ok"
        except (Failed, httpx.HTTPError, subprocess.SubprocessError, TimeoutError) as error:
            remark, result, failed = str(error), "FAILED", True
        rows.append((result, f"{time.monotonic() - began:.0f}", name, remark))
        print(f"  {result} {rows[-1][1]} s {remark}", flush=True)
    print("\n| | seconds | step | |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(one.splitlines()[0] if one else '' for one in row)} |")
    sys.exit(failed)


main()
