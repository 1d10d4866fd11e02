"""A stand-in for the booking service, over real HTTP."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import uvicorn


@dataclass
class BookingStub:
    """Answers with `appointments`, by doctor or patient, and records each path with its Authorization header."""

    url: str
    appointments: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator[Self]:
        listener = socket.create_server(("127.0.0.1", 0))
        booking = cls(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(booking._answer, interface="asgi3", lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield booking
        server.should_exit = True
        await serving

    async def _answer(self, scope: Any, _: Any, send: Any) -> None:
        path = scope["path"]
        self.asked.append((path, dict(scope["headers"])[b"authorization"].decode()))
        found = re.fullmatch("/internal/(?:doctors|patients)/([^/]+)/appointments", path)
        body = msgspec.json.encode({"items": self.appointments.get(found[1], [])}) if found else b""
        await send({"type": "http.response.start", "status": 200 if found else 404, "headers": []})
        await send({"type": "http.response.body", "body": body})
