import asyncio

import pytest
from prometheus_client import CollectorRegistry

from services.kit.errors import NotReady, Unavailable
from services.kit.tasks import Supervisor, backoff, every, pause
from tests.support.waiting import eventually, without_hang


async def test_a_task_that_dies_is_restarted_counted_and_shown_as_failing() -> None:
    registry = CollectorRegistry()
    supervisor = Supervisor(registry)
    starts = 0
    again = asyncio.Event()

    async def fragile(stop: asyncio.Event) -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise RuntimeError("once")
        again.set()
        await stop.wait()

    supervisor.add("fragile", fragile)
    supervisor.start()
    await eventually(lambda: supervisor.failing == {"fragile"})
    with pytest.raises(NotReady, match="fragile"):
        await supervisor.check()
    async with without_hang():
        await again.wait()
    await supervisor.check()
    assert registry.get_sample_value("task_restarts_total", {"task": "fragile"}) == 1
    await supervisor.stop()


async def test_a_task_that_returns_early_is_restarted() -> None:
    registry = CollectorRegistry()
    supervisor = Supervisor(registry)

    async def lazy(_: asyncio.Event) -> None: ...

    supervisor.add("lazy", lazy)
    supervisor.start()
    await eventually(lambda: registry.get_sample_value("task_restarts_total", {"task": "lazy"}) == 1)
    await supervisor.stop()


async def test_stopping_waits_for_tasks_and_cancels_late_ones() -> None:
    supervisor = Supervisor(CollectorRegistry())
    ended: list[str] = []
    begun = asyncio.Event()

    async def polite(stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.sleep(0.05)
        ended.append("polite")

    async def stubborn(_: asyncio.Event) -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.append("stubborn")

    supervisor.add("polite", polite)
    supervisor.add("stubborn", stubborn)
    supervisor.start()
    await begun.wait()
    async with without_hang():
        await supervisor.stop(within_seconds=1)
    assert ended == ["polite", "stubborn"]


async def test_stopping_before_the_start_is_harmless() -> None:
    await Supervisor(CollectorRegistry()).stop()


async def test_periodic_work_is_repeated_until_it_is_stopped_although_it_fails() -> None:
    stop = asyncio.Event()
    times = 0

    async def work() -> None:
        nonlocal times
        times += 1
        if times == 3:
            stop.set()
        raise Unavailable

    async with without_hang():
        await every(0.01, work)(stop)
    assert times == 3


async def test_a_pause_ends_when_the_event_is_set() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, stop.set)
    async with without_hang():
        await pause(stop, 60)


def test_the_backoff_doubles_up_to_its_limit_and_is_jittered() -> None:
    for attempt, longest in ((1, 0.1), (2, 0.2), (4, 0.8), (5, 1.0), (10_000, 1.0)):
        waits = {backoff(attempt, 0.1, 1.0) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest
