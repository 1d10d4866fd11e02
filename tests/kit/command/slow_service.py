"""A service with one slow route, for a test that stops it meanwhile."""

import asyncio
import os

from litestar import get

from services.kit import log
from services.kit.command.server import serve
from services.kit.http.guards import PUBLIC
from services.kit.http.service import Service
from services.kit.settings import ServiceSettings, load


@get("/api/slow", security=PUBLIC)
async def slow() -> dict[str, bool]:
    print("request begins", flush=True)  # noqa: T201
    await asyncio.sleep(float(os.environ["SLOW_SECONDS"]))
    return {"finished": True}


class Resource:
    async def open(self) -> None:
        print("lifespan begins", flush=True)  # noqa: T201

    async def close(self) -> None:
        print("lifespan ends", flush=True)  # noqa: T201


if __name__ == "__main__":
    log.configure("INFO", readable=False)
    service = Service("slow", load(ServiceSettings, os.environ), description="")
    service.opening(Resource())
    service.mount([slow])
    serve(service)
