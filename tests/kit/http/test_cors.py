"""Pages of other origins: those of CORS_ORIGINS may call, and read every answer."""

import httpx
import pytest

from services.kit.http.cors import REQUEST_HEADERS, RESPONSE_HEADERS
from tests.kit.http.notes import HANDLERS
from tests.kit.http.services import doctor, service_of
from tests.support.running import client_of

ORIGIN, OTHER = "https://app.example.com", "https://evil.example.com"
NOTE = "/api/notes/019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"
ANSWERS = {
    200: ("GET", "/api/notes", {}),
    204: ("OPTIONS", "/api/notes", {}),
    400: ("GET", "/api/notes?limit=x", {}),
    401: ("GET", "/api/mine", {}),
    404: ("GET", "/api/nothing", {}),
    405: ("PUT", "/api/notes", {}),
    409: ("GET", "/api/taken", {}),
    415: ("POST", NOTE, {"Content-Type": "text/plain"}),
    429: ("GET", "/api/limited", {}),
    500: ("GET", "/api/broken", {}),
}


@pytest.mark.parametrize("status", ANSWERS)
async def test_a_listed_origin_may_read_every_answer(client: httpx.AsyncClient, status: int) -> None:
    method, path, headers = ANSWERS[status]
    body = b"a" if headers else b""
    for origin, allowed in ((ORIGIN, ORIGIN), (OTHER, None), ("null", None)):
        answer = await client.request(method, path, content=body, headers={**headers, "Origin": origin})
        assert answer.status_code == status
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert answer.headers.get("vary") == "Origin"
        exposed = answer.headers.get("access-control-expose-headers", "").split(", ")
        assert set(exposed) == (set(RESPONSE_HEADERS) if allowed else {""})
        assert "access-control-allow-credentials" not in answer.headers


async def test_a_quota_that_is_used_up_can_be_read_too() -> None:
    service = service_of("few", HANDLERS, cors_origins=ORIGIN, user_requests_per_minute=1)
    async with client_of(service) as client:
        answers = [await client.get("/api/mine", headers=doctor() | {"Origin": ORIGIN}) for _ in range(2)]
        caller = answers[0].request.headers["Authorization"]
        again = await client.get("/api/mine", headers={"Authorization": caller, "Origin": ORIGIN})
    assert again.status_code == 429
    assert again.headers["access-control-allow-origin"] == ORIGIN
    assert {"retry-after", "ratelimit"} & set(again.headers)


@pytest.mark.parametrize("path", ["/api/notes", NOTE, "/api/mine", "/api/nothing"])
async def test_a_browser_may_send_every_header_and_method(client: httpx.AsyncClient, path: str) -> None:
    asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "x-otp,traceparent"}
    answer = await client.options(path, headers={"Origin": ORIGIN, **asked})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-headers"] == ", ".join(REQUEST_HEADERS)
    assert {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} == set(
        answer.headers["access-control-allow-methods"].split(", ")
    )


async def test_a_browser_of_another_origin_may_not(client: httpx.AsyncClient) -> None:
    headers = {"Origin": OTHER, "Access-Control-Request-Method": "GET"}
    answer = await client.options("/api/notes", headers=headers)
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_without_origins_no_answer_speaks_of_them() -> None:
    async with client_of(service_of("closed", HANDLERS)) as client:
        answer = await client.get("/api/notes", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
