"""Waiting for what other processes and tasks do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


async def eventually(
    holds: Callable[[], Awaitable[bool] | bool], within_seconds: float = 10.0, every_seconds: float = 0.02
) -> None:
    """Poll `holds` until it is true; raise TimeoutError after `within_seconds`."""
    async with asyncio.timeout(within_seconds):
        while not (await held if isinstance(held := holds(), Awaitable) else held):
            await asyncio.sleep(every_seconds)


@asynccontextmanager
async def running(*runs: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    """Run background tasks for the length of the block. An exception in one of them fails the test."""
    stop = asyncio.Event()
    tasks = [asyncio.ensure_future(run(stop)) for run in runs]
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)
