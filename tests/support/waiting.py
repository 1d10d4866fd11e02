"""Waiting for what other processes and tasks do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

# On a machine ten times slower, everything that a service bounds still ends before this.
HANG_SECONDS = 60.0


def without_hang() -> asyncio.Timeout:
    """Raise TimeoutError in the block if it waits for something that never comes; the machine's speed is no reason."""
    return asyncio.timeout(HANG_SECONDS)


async def eventually(holds: Callable[[], Awaitable[bool] | bool], *, every_seconds: float = 0.02) -> None:
    """Poll `holds` until it is true; raise TimeoutError if it never is."""
    async with without_hang():
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
        async with without_hang():
            await asyncio.gather(*tasks)
