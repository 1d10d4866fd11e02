"""Services that run inside the test process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx

from services.kit.http.service import Service
from tests.support.metrics import samples


@asynccontextmanager
async def in_its_own_task(context: AbstractAsyncContextManager[object]) -> AsyncIterator[None]:
    """Enter and leave `context` in one task, because pytest runs a fixture's set-up and tear-down in two.

    Litestar's lifespan holds a task group, which only the task that entered it may leave.
    """
    entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def hold() -> None:
        try:
            async with context:
                entered.set_result(None)
                await leave.wait()
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    task = asyncio.create_task(hold())
    await entered
    try:
        yield
    finally:
        leave.set()
        await task


@asynccontextmanager
async def client_of(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Run the service for the length of the block, and yield a client of its public port without a socket between."""
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with (
        in_its_own_task(service.lifespan()),
        httpx.AsyncClient(transport=transport, base_url=f"http://{service.name}.test") as client,
    ):
        yield client


@asynccontextmanager
async def internal_client_of(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the internal port of a service that runs already."""
    transport = httpx.ASGITransport(service.internal)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{service.name}.test") as client:
        yield client


async def metrics_of(service: Service) -> dict[str, float]:
    """Return the service's samples by name and labels."""
    async with internal_client_of(service) as client:
        return samples((await client.get("/metrics")).text)
