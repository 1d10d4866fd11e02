"""Freezing server processes with SIGSTOP."""

import os
import signal
from pathlib import Path
from time import monotonic, sleep


def family(pid: int) -> list[int]:
    """Return the pid and its children, because PostgreSQL has a process per connection."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def freeze(*pids: int) -> None:
    """Stop the processes, and return when all their threads have stopped; until then one may still answer."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = monotonic() + 5
    while not all(_is_stopped(task) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()):
        assert monotonic() < deadline
        sleep(0.001)


def _is_stopped(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return True  # it has ended
