"""Background tasks in a service's own process: the relay, consumers and clean-up, under a supervisor."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter

from services.kit.errors import NotReady, Unavailable

log = structlog.get_logger("tasks")

_LONG_SECONDS = 60.0  # a task that ran this long before it died is restarted as if it had never died before

Run = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


class Supervisor:
    """Run each task until `stop`. A task that dies is logged, counted, listed in `failing` and started again."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._restarts = Counter("task_restarts_total", "Background tasks that died", ["task"], registry=registry)
        self._stop = asyncio.Event()
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.failing: set[str] = set()

    def add(self, name: str, run: Run) -> None:
        """Add a task. `run` must return within a few seconds after the event it is given has been set."""
        self._runs[name] = run

    def start(self) -> None:
        self._tasks = {asyncio.create_task(self._supervise(name, run), name=name) for name, run in self._runs.items()}

    async def stop(self, within_seconds: float = 10.0) -> None:
        self._stop.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def check(self) -> None:
        """A health check: raise `NotReady` while a task that died waits for its restart."""
        if self.failing:
            raise NotReady(f"failing: {', '.join(sorted(self.failing))}")

    async def _supervise(self, name: str, run: Run) -> None:
        deaths = 0
        while not self._stop.is_set():
            started = asyncio.get_running_loop().time()
            try:
                await run(self._stop)
                if self._stop.is_set():
                    return
                log.error("background task returned early", task=name)
            except Exception:
                log.exception("background task died", task=name)
            self._restarts.labels(name).inc()
            self.failing.add(name)
            ran_long = asyncio.get_running_loop().time() - started > _LONG_SECONDS
            deaths = 1 if ran_long else deaths + 1
            await pause(self._stop, backoff(deaths, 1.0, 15.0))
            self.failing.discard(name)


def backoff(attempt: int, first_seconds: float, last_seconds: float) -> float:
    """Return the seconds to wait after the `attempt`th failure in a row, counted from 1.

    The wait doubles from `first_seconds` up to `last_seconds`; up to half of it is taken off at random, so that
    processes that failed together do not try again together.
    """
    return min(last_seconds, first_seconds * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1)  # noqa: S311


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for `seconds`, or until `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def every(seconds: float, work: Callable[[], Awaitable[object]]) -> Run:
    """Return a task that repeats `work`, pausing for `seconds` after each time.

    Work that raises `Unavailable` is left for the next time.
    """

    async def run(stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await work()
            except Unavailable:
                log.warning("background work postponed: a dependency is unavailable")
            await pause(stop, seconds)

    return run
