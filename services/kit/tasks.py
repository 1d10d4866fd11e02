"""Supervised background tasks: the relay, consumers and clean-up that live in a service's own process."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter

from services.kit.errors import NotReady, Unavailable

log = structlog.get_logger("tasks")

Run = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


class Supervisor:
    """Runs each task until `stop`; one that dies is logged, counted, shown by `failing` and started again."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._restarts = Counter("task_restarts_total", "Background tasks that died", ["task"], registry=registry)
        self._stop = asyncio.Event()
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.failing: set[str] = set()

    def add(self, name: str, run: Run) -> None:
        """`run` gets the event that asks it to return; it must do so within a few seconds of it being set."""
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
        """A health check: every task runs."""
        if self.failing:
            raise NotReady(f"failing: {', '.join(sorted(self.failing))}")

    async def _supervise(self, name: str, run: Run) -> None:
        delay = 0.5
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
            delay = 0.5 if asyncio.get_running_loop().time() - started > 60 else min(delay * 2, 15.0)
            await pause(self._stop, delay * random.uniform(0.8, 1.2))  # noqa: S311
            self.failing.discard(name)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep that ends early when `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def every(seconds: float, work: Callable[[], Awaitable[object]]) -> Run:
    """A task that does `work` again and again, with a pause between the end of one and the start of the next.

    What cannot be done while a dependency is away is done the next time.
    """

    async def run(stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await work()
            except Unavailable:
                log.warning("background work put off")
            await pause(stop, seconds)

    return run
