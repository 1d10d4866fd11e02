"""A service with one slow route, for a test that stops it meanwhile."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import get
from prometheus_client import CollectorRegistry

from services.kit import log
from services.kit.auth import TokenVerifier
from services.kit.command.server import serve
from services.kit.health import Health
from services.kit.http.guards import PUBLIC
from services.kit.http.service import Service
from services.kit.settings import ServiceSettings, load


@get("/api/slow", security=PUBLIC)
async def slow() -> dict[str, bool]:
    print("request begins", flush=True)  # noqa: T201
    await asyncio.sleep(float(os.environ["SLOW_SECONDS"]))
    return {"finished": True}


async def fine() -> None: ...


async def no_keys() -> bytes:
    raise OSError


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    print("lifespan begins", flush=True)  # noqa: T201
    yield
    print("lifespan ends", flush=True)  # noqa: T201


if __name__ == "__main__":
    log.configure("INFO", readable=False)
    registry = CollectorRegistry()
    serve(
        Service(
            "slow",
            title="Slow",
            version="1",
            description="",
            settings=load(ServiceSettings, os.environ),
            registry=registry,
            verifier=TokenVerifier(issuer="i", audience="a", fetch=no_keys),
            health=Health("slow", "1", registry, essential={"store": fine}),
            route_handlers=[slow],
            lifespan=lifespan,
        )
    )
