"""What a client may send, and how slowly, before its connection is closed."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from services.kit.command import protocol
from services.kit.command.server import Listener, _server
from services.kit.http.cors import Cors
from tests.support.waiting import without_hang

ORIGIN = "https://app.example.com"
GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer the length of the body; `/stream` answers the first half of its answer and waits for the client to go."""
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            continue
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    body = str(length).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    listener = Listener("127.0.0.1", 0)
    server: uvicorn.Server = _server(echo, 1, "off", cors=Cors(ORIGIN))
    serving = asyncio.create_task(server.serve([listener.socket]))
    yield listener.port
    server.should_exit = True
    await serving


async def answers(port: int, *pieces: bytes) -> bytes:
    """Send the pieces one after the other, and return everything that the server sends until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with without_hang():
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            return await reader.read()
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


def assert_problem(answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"/api/docs/errors#{code}"
    assert len(problem["detail"]) > len(problem["title"])
    assert f"x-request-id: {problem['requestId']}\r\n".encode() in head + b"\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [GET + b"X-Long: " + b"a" * 40_000 + b"\r\n\r\n"],
        [GET + b"X-Long: ", *[b"a" * 9_000] * 4],
        [GET, *[b"X-%d: 1\r\n" % number for number in range(101)], b"\r\n"],
        [GET + b"".join(b"X-%d: 1\r\n" % number for number in range(101)) + b"\r\n"],
        [b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n"],
    ],
    ids=["one long header at once", "one long header in pieces", "many in pieces", "many at once", "a long address"],
)
async def test_a_head_that_is_too_large_is_431_and_ends_the_connection(port: int, pieces: list[bytes]) -> None:
    assert_problem(await answers(port, *pieces), 431, "headers_too_large")


@pytest.mark.parametrize(("origin", "allowed"), [(ORIGIN, True), ("https://evil.example.com", False)])
async def test_a_page_of_a_listed_origin_learns_what_was_refused(
    port: int, origin: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    head = GET + f"Origin: {origin}\r\n".encode()
    long = b"X-Long: " + b"a" * 40_000 + b"\r\n"
    for pieces, status in (
        ([head + long + b"\r\n"], 431),
        ([head, long, b"\r\n"], 431),
        ([head + b"X-Half"], 408),
    ):
        answer = await answers(port, *pieces)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert (f"access-control-allow-origin: {ORIGIN}\r\n".encode() in answer) is allowed
        assert b"vary: Origin\r\n" in answer


async def test_a_page_learns_it_too_when_its_origin_has_not_arrived(port: int) -> None:
    answer = await answers(port, GET, b"X-Long: ", *[b"a" * 9_000] * 4)
    assert_problem(answer, 431, "headers_too_large")
    assert b"access-control-allow-origin: *\r\n" in answer


async def test_a_head_within_the_bounds_is_answered_and_its_body_does_not_count(port: int) -> None:
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 300) for number in range(90))
    request = b"POST / HTTP/1.1\r\n" + headers + b"Content-Length: 60000\r\nConnection: close\r\n\r\n" + b"b" * 60_000
    assert (await answers(port, request)).endswith(b"\r\n\r\n60000")
    assert (await answers(port, request[:20_000], request[20_000:])).endswith(b"\r\n\r\n60000")


@pytest.mark.parametrize("sent", [b"G", GET, GET + b"X-Half: a"])
async def test_a_head_that_does_not_end_is_408(port: int, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    assert_problem(await answers(port, sent), 408, "request_timeout")


async def test_a_trickle_of_headers_does_not_extend_the_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    answer = await answers(port, GET, *[b"X-A: b\r\n"] * 90)
    assert answer == b"reset" or b" 408 " in answer


async def test_a_body_that_does_not_end_is_408(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.2)
    assert_problem(await answers(port, POST + b"12345"), 408, "request_timeout")


async def test_a_silent_connection_is_closed_without_an_answer(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    assert await answers(port) == b""


async def test_a_long_answer_and_a_kept_connection_have_no_such_limit(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with without_hang():
        for _ in range(2):
            writer.write(POST + b"1234567890")
            await reader.readuntil(b"\r\n\r\n10")
            await asyncio.sleep(0.5)
        writer.write(GET.replace(b"/ ", b"/stream ", 1) + b"\r\n")
        await reader.readuntil(b"half")
    ended = asyncio.create_task(reader.read())
    done, _ = await asyncio.wait([ended], timeout=0.5)
    assert not done
    ended.cancel()
    writer.close()


async def test_no_answer_is_put_into_the_middle_of_another(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    answer = await answers(port, GET.replace(b"/ ", b"/stream ", 1) + b"\r\n", GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408" not in answer


@pytest.mark.parametrize("sent", [b"NONSENSE\r\n\r\n", GET + b"no colon\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_request_that_is_not_http_is_a_problem_too(port: int, sent: bytes) -> None:
    assert_problem(await answers(port, sent), 400, "invalid_request")
