"""Applications running in the test process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx

from services.kit.http.service import Service


@asynccontextmanager
async def in_its_own_task(context: AbstractAsyncContextManager[object]) -> AsyncIterator[None]:
    """Enters and leaves `context` in one task, which a fixture's set-up and tear-down are not.

    Litestar's lifespan holds a task group, and that must be left where it was entered.
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
    """A client of the public port of a service that runs for as long as the block, without a socket between."""
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with (
        in_its_own_task(service.lifespan()),
        httpx.AsyncClient(transport=transport, base_url=f"http://{service.name}.test") as client,
    ):
        yield client
