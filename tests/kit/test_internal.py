import asyncio
import socket
from collections.abc import AsyncIterator
from time import monotonic

import httpx
import msgspec
import pytest
import uvicorn
from litestar import Litestar, get
from litestar.connection import Request
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from services.kit import internal
from services.kit.errors import Unavailable
from services.kit.http.guards import requires_internal_token
from services.kit.internal import InternalClient, PublishedDocument
from services.kit.log import request_id

TOKEN = "t" * 32


class Thing(msgspec.Struct):
    name: str
    asked_by: str


@get("/internal/things/{name:str}", before_request=requires_internal_token(TOKEN))
async def thing(name: FromPath[str], request: Request) -> dict[str, str]:  # type: ignore[type-arg]
    if name == "none":
        raise NotFoundException
    if name == "broken":
        raise RuntimeError
    if name == "strange":
        return {"nom": "x"}
    if name == "slow":
        await asyncio.sleep(20)
    return {"name": name, "asked_by": request.headers.get("x-request-id", "")}


@get("/keys.json")
async def keys(request: Request) -> dict[str, object]:  # type: ignore[type-arg]
    return {"keys": [], "token": request.headers.get("authorization")}


class Neighbour(uvicorn.Server):
    def __init__(self) -> None:
        super().__init__(uvicorn.Config(Litestar([thing, keys], openapi_config=None), log_config=None, lifespan="off"))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"


@pytest.fixture(scope="module")
async def neighbour() -> AsyncIterator[Neighbour]:
    server = Neighbour()
    serving = asyncio.create_task(server._serve([server.socket]))
    yield server
    server.should_exit = server.force_exit = True  # without waiting for the slow route
    await serving


@pytest.fixture
async def client(neighbour: Neighbour) -> AsyncIterator[InternalClient]:
    client = InternalClient(neighbour.url, TOKEN)
    yield client
    await client.close()


async def test_an_answer_is_decoded_and_the_request_id_is_sent(client: InternalClient) -> None:
    request_id.set("abc")
    assert await client.get("/internal/things/chair", Thing) == Thing("chair", "abc")


async def test_a_404_is_none_and_does_not_open_the_breaker(client: InternalClient) -> None:
    for _ in range(8):
        assert await client.get("/internal/things/none", Thing) is None


@pytest.mark.parametrize("name", ["broken", "strange", "slow"])
async def test_every_other_answer_is_unavailable(client: InternalClient, name: str) -> None:
    with pytest.raises(Unavailable):
        await client.get(f"/internal/things/{name}", Thing)


async def test_a_refused_token_is_unavailable_and_not_the_callers_error(neighbour: Neighbour) -> None:
    client = InternalClient(neighbour.url, "u" * 32)
    with pytest.raises(Unavailable):
        await client.get("/internal/things/chair", Thing)
    await client.close()


async def test_a_published_document_is_fetched_without_the_token(neighbour: Neighbour) -> None:
    document = PublishedDocument(f"{neighbour.url}/keys.json")
    assert await document.fetch() == b'{"keys":[],"token":null}'
    await document.close()
    broken = PublishedDocument(f"{neighbour.url}/internal/things/chair")
    with pytest.raises(httpx.HTTPStatusError):
        await broken.fetch()
    await broken.close()


async def test_the_breaker_opens_after_five_failures_and_closes_again(
    client: InternalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        with pytest.raises(Unavailable):
            await client.get("/internal/things/broken", Thing)
    with pytest.raises(Unavailable):
        await client.get("/internal/things/chair", Thing)
    now = monotonic()
    monkeypatch.setattr(internal, "monotonic", lambda: now + 10)
    assert await client.get("/internal/things/chair", Thing) is not None
    assert await client.get("/internal/things/chair", Thing) is not None
