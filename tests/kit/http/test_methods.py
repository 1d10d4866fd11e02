"""HEAD and OPTIONS of every path."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Response, delete, get, patch
from litestar.params import FromPath
from litestar.response import ServerSentEvent

from services.kit.http.guards import PUBLIC
from services.kit.http.service import Service
from tests.kit.http.notes import HANDLERS
from tests.kit.http.services import assert_problem, doctor, service_of
from tests.support.running import client_of
from tests.support.waiting import without_hang


@get("/api/things/{id:uuid}", security=PUBLIC)
async def read(id: FromPath[str]) -> Response[str]:
    return Response("a thing", headers={"ETag": '"1"', "X-Length": "7"})


@patch("/api/things/{id:uuid}", security=PUBLIC)
async def change(id: FromPath[str]) -> None: ...


@delete("/api/things/{id:uuid}", security=PUBLIC)
async def remove(id: FromPath[str]) -> None: ...


@get("/api/endless", security=PUBLIC)
async def endless() -> ServerSentEvent:
    async def events() -> AsyncIterator[str]:
        while True:
            await asyncio.sleep(0.01)  # lets a test that waits in vain end
            yield "tick"

    return ServerSentEvent(events())


THING = "/api/things/019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"


@pytest.mark.parametrize(
    "path", ["/api/notes", "/api/page", "/api/mine", "/api/taken", "/api/broken", "/api/health/live"]
)
async def test_head_has_the_status_and_headers_of_get_and_no_body(client: httpx.AsyncClient, path: str) -> None:
    expected, answer = [await client.request(method, path, headers=doctor()) for method in ("GET", "HEAD")]
    assert answer.status_code == expected.status_code
    assert answer.content == b""
    differing = {"x-request-id", "ratelimit"}
    assert {name: value for name, value in answer.headers.items() if name not in differing} == {
        name: value for name, value in expected.headers.items() if name not in differing
    }


async def test_head_of_what_cannot_be_read_is_405(client: httpx.AsyncClient) -> None:
    answer = await client.head("/api/notes/019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073", headers=doctor())
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "OPTIONS, POST", b"")


async def test_head_is_counted_as_head(client: httpx.AsyncClient, service: Service) -> None:
    await client.head("/api/context")
    transport = httpx.ASGITransport(service.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://notes.test") as internal:
        metrics = (await internal.get("/metrics")).text
    assert 'http_requests_total{method="HEAD",route="/api/context",status="200"}' in metrics


async def test_head_of_a_stream_ends() -> None:
    service = service_of("streams", [endless])
    async with client_of(service) as client, without_hang():
        answer = await client.head("/api/endless")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b""


@pytest.mark.parametrize(
    "handlers", [[read, change, remove], [remove, read, change], [change, *HANDLERS, remove, read]], ids=[1, 2, 3]
)
async def test_options_names_all_methods_of_a_path(handlers: list[object]) -> None:
    async with client_of(service_of("things", handlers)) as client:  # type: ignore[arg-type]
        answer = await client.options(THING)
        refused = await client.put(THING, json={})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == refused.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"


async def test_options_of_an_unknown_path_is_404(client: httpx.AsyncClient) -> None:
    assert_problem(await client.options("/api/nothing"), 404, "not_found")
