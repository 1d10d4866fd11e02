import os
import signal
from pathlib import Path
from time import monotonic, sleep


def family(pid: int) -> list[int]:
    """PostgreSQL is a process for each connection, too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def freeze(*pids: int) -> None:
    """Returns when all threads stand still: a signal that `kill` has sent is on its way, and one may answer yet."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = monotonic() + 5
    while not all(_stands(task) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()):
        assert monotonic() < deadline
        sleep(0.001)


def _stands(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return True  # ended meanwhile
