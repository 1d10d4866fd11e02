import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from litestar import Request as LitestarRequest
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody
from prometheus_client import CollectorRegistry

from services.contracts.enums import Role
from services.kit.auth import TokenVerifier
from services.kit.errors import Conflict, TooManyRequests
from services.kit.health import Health
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, requires, requires_internal_token
from services.kit.http.paging import Cursor, Limit, Page
from services.kit.http.schema import Instant, Line, Request, Text, parse_instant
from services.kit.http.service import Service
from services.kit.settings import ServiceSettings
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.running import client_of

issuer = Issuer()


class Note(Request, frozen=True):
    owner_id: UUID
    at: Instant
    title: Line
    stars: Annotated[int, msgspec.Meta(ge=1, le=5)] = 3
    text: Text | msgspec.UnsetType | None = msgspec.UNSET


@post("/api/notes/{note_id:uuid}", before_request=requires(Role.DOCTOR))
async def write(note_id: FromPath[UUID], data: JSONBody[Note], request: AuthenticatedRequest) -> dict[str, Any]:
    return {"id": note_id, "by": request.user.id, "title": data.title}


@get("/api/notes", security=PUBLIC)
async def read(cursor: Cursor = None, limit: Limit = 50, since: FromQuery[str | None] = None) -> Page[str]:
    at = parse_instant(since, "since")
    return Page(items=[str(at), str(limit)], next_cursor=cursor)


@get("/api/mine", before_request=requires())
async def mine(request: AuthenticatedRequest) -> dict[str, UUID]:
    return {"id": request.user.id}


@get("/api/broken", security=PUBLIC)
async def broken() -> None:
    raise RuntimeError("SELECT secret FROM table")


@get("/api/taken", security=PUBLIC)
async def taken() -> None:
    raise Conflict("Taken by somebody", alternatives=["a", "b"])


@get("/api/limited", security=PUBLIC)
async def limited() -> None:
    raise TooManyRequests(7)


@get("/api/context", security=PUBLIC)
async def context(request: LitestarRequest[Any, Any, Any]) -> dict[str, str]:
    return {"id": request.scope["state"]["request_id"]}


@get("/internal/thing", before_request=requires_internal_token("t" * 32))
async def internal_thing() -> str:
    return "thing"


async def fine() -> None: ...


async def jwks() -> bytes:
    return issuer.jwks


@asynccontextmanager
async def no_resources() -> AsyncIterator[None]:
    yield


@pytest.fixture(scope="module")
def service() -> Service:
    registry = CollectorRegistry()
    return Service(
        "notes",
        title="Notes",
        version="1.2.3",
        description="Notes for tests.",
        settings=ServiceSettings(redis_url="redis://127.0.0.1", cors_origins="https://app.example.com"),
        registry=registry,
        verifier=TokenVerifier(issuer=ISSUER, audience=AUDIENCE, fetch=jwks),
        health=Health("notes", "1.2.3", registry, essential={"store": fine}),
        route_handlers=[write, read, mine, broken, taken, limited, context],
        internal_handlers=[internal_thing],
        lifespan=no_resources,
    )


@pytest.fixture(scope="module")
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def doctor() -> dict[str, str]:
    return bearer(issuer.token(role=Role.DOCTOR))


def note(**changes: Any) -> dict[str, Any]:
    return {"ownerId": str(uuid4()), "at": "2026-12-01T09:30:00Z", "title": "First", **changes}


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert {"type", "title", "status", "code", "requestId"} <= problem.keys()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["requestId"] == response.headers["x-request-id"]
    return problem


async def test_a_valid_request_is_answered(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json=note(), headers=doctor())
    assert response.status_code == 201
    assert response.json()["title"] == "First"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


BAD_FIELDS = [
    ({"ownerId": "x"}, "ownerId", "Invalid UUID"),
    ({"at": "2026-12-01T09:30:00"}, "at", "timezone"),
    ({"at": 1700000000}, "at", "got int"),
    ({"at": "9999999-12-01T09:30:00Z"}, "at", "Invalid"),
    ({"at": "0001-01-01T00:00:00+23:59"}, "at", "years 2 to 9998"),
    ({"at": "9999-12-31T23:59:59-23:59"}, "at", "years 2 to 9998"),
    ({"title": ""}, "title", "length >= 1"),
    ({"title": "   "}, "title", "regex"),
    ({"title": "a\x00b"}, "title", "regex"),
    ({"title": "a\nLog: forged"}, "title", "regex"),
    ({"title": "line end\n"}, "title", "regex"),
    ({"title": "x" * 201}, "title", "length <= 200"),
    ({"title": {"$gt": ""}}, "title", "got object"),
    ({"title": None}, "title", "got null"),
    ({"stars": "5"}, "stars", "got str"),
    ({"stars": 10**40}, "stars", "<= 5"),
    ({"stars": 1.5}, "stars", "got float"),
    ({"stars": True}, "stars", "got bool"),
    ({"text": "a\x00"}, "text", "regex"),
    ({"role": "ADMIN"}, "role", "Unknown field"),
]


@pytest.mark.parametrize(("change", "path", "message"), BAD_FIELDS)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, change: dict[str, Any], path: str, message: str
) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json=note(**change), headers=doctor())
    errors = assert_problem(response, 400, "invalid_request")["errors"]
    assert [error["path"] for error in errors] == [path]
    assert message in errors[0]["message"]


async def test_all_wrong_fields_are_named_at_once(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json={"stars": 9, "zz": 1}, headers=doctor())
    errors = assert_problem(response, 400, "invalid_request")["errors"]
    assert {error["path"] for error in errors} == {"zz", "ownerId", "at", "title", "stars"}


BAD_BODIES = [
    (b"{", "malformed_json"),
    (b"\xff\xfe", "malformed_json"),
    (b'{"title": "\\ud800"}', "malformed_json"),
    (b'{"title": "\xed\xa0\x80"}', "malformed_json"),
    (b"[" * 60_000, "invalid_request"),
    (b'{"a":' * 10_000, "invalid_request"),
    (b'{"stars": 1e999}', "invalid_request"),
    (b"[]", "invalid_request"),
    (b"null", "invalid_request"),
    (b'"text"', "invalid_request"),
    (b"", "invalid_request"),
]


@pytest.mark.parametrize(("body", "code"), BAD_BODIES)
async def test_a_body_that_is_no_note_is_400(client: httpx.AsyncClient, body: bytes, code: str) -> None:
    headers = {**doctor(), "Content-Type": "application/json"}
    response = await client.post(f"/api/notes/{uuid4()}", content=body, headers=headers)
    assert_problem(response, 400, code)


async def test_a_body_of_more_than_64_kib_is_413(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json=note(text="x" * 1_000_000), headers=doctor())
    assert_problem(response, 413, "content_too_large")


async def test_a_body_of_unknown_length_is_cut_off_too(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 1024

    headers = {**doctor(), "Content-Type": "application/json"}
    response = await client.post(f"/api/notes/{uuid4()}", content=endless(), headers=headers)
    assert_problem(response, 413, "content_too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_body_that_is_not_json_is_415(client: httpx.AsyncClient, content_type: str) -> None:
    headers = {**doctor(), "Content-Type": content_type}
    response = await client.post(f"/api/notes/{uuid4()}", content=b"a=b", headers=headers)
    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("since=2026-12-01T09:30:00", "since"),
        ("since=1700000000", "since"),
        ("since=now", "since"),
        ("since=0001-01-01T00:00:00%2B23:59", "since"),
        ("since=9999-12-31T23:59:59-23:59", "since"),
        (f"cursor={'x' * 2001}", "cursor"),
    ],
)
async def test_a_wrong_query_parameter_is_named(client: httpx.AsyncClient, query: str, path: str) -> None:
    response = await client.get(f"/api/notes?{query}")
    assert [error["path"] for error in assert_problem(response, 400, "invalid_request")["errors"]] == [path]


async def test_a_nul_in_the_query_is_400(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/api/notes?since=%00"), 400, "invalid_request")


async def test_bytes_in_the_query_that_are_no_text_are_no_500(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/notes?since=%ff%fe")).status_code == 400
    assert (await client.get("/api/notes?other=%ff")).status_code == 200


@pytest.mark.parametrize("instant", ["0002-01-01T00:00:00+23:59", "9998-12-31T23:59:59-23:59"])
async def test_the_first_and_the_last_instant_are_representable_in_utc(client: httpx.AsyncClient, instant: str) -> None:
    assert (await client.get("/api/notes", params={"since": instant})).status_code == 200
    response = await client.post(f"/api/notes/{uuid4()}", json=note(at=instant), headers=doctor())
    assert response.status_code == 201
    datetime.fromisoformat(instant).astimezone(UTC)


async def test_an_instant_in_the_query_is_read(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/notes", params={"since": "2026-12-01T09:30:00+01:00", "limit": 7})
    assert response.json()["items"] == ["2026-12-01 09:30:00+01:00", "7"]


@pytest.mark.parametrize("path", ["/api/notes/not-an-id", "/api/nothing", "/", "/api/notes/%00"])
async def test_an_address_that_leads_nowhere_is_404(client: httpx.AsyncClient, path: str) -> None:
    assert_problem(await client.post(path, headers=doctor()), 404, "not_found")


async def test_a_method_that_an_address_does_not_take_is_405_and_says_which_it_takes(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/notes")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


async def test_who_is_not_signed_in_is_401(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/mine")
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "bearer\u00e9"])
async def test_a_strange_authorization_header_is_401(client: httpx.AsyncClient, header: str) -> None:
    response = await client.get("/api/mine", headers={b"authorization": header.encode("latin-1")})
    assert_problem(response, 401, "unauthorized")


async def test_a_bad_token_is_401_before_the_body_is_looked_at(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json={"zz": 1}, headers=bearer(issuer.token(exp=1)))
    assert_problem(response, 401, "invalid_token")


async def test_a_public_address_ignores_a_bad_token(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/notes", headers=bearer("x.y.z"))).status_code == 200


async def test_the_wrong_role_is_403(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json=note(), headers=bearer(issuer.token()))
    assert_problem(response, 403, "forbidden")


async def test_the_caller_reaches_the_handler(client: httpx.AsyncClient) -> None:
    user = uuid4()
    assert (await client.get("/api/mine", headers=bearer(issuer.token(user)))).json() == {"id": str(user)}


async def test_an_unhandled_exception_tells_nothing(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/broken")
    assert_problem(response, 500, "internal_error")
    assert "SELECT" not in response.text


async def test_an_error_carries_its_own_members(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await client.get("/api/taken"), 409, "conflict")
    assert (problem["detail"], problem["alternatives"]) == ("Taken by somebody", ["a", "b"])


async def test_an_error_carries_its_headers(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/limited")).headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a\tforged", False), ("", False)],
)
async def test_a_request_id_is_taken_when_it_is_well_formed(client: httpx.AsyncClient, given: str, kept: bool) -> None:
    response = await client.get("/api/context", headers={"X-Request-ID": given})
    assert response.json()["id"] == response.headers["x-request-id"]
    assert (response.headers["x-request-id"] == given) is kept


async def test_a_page_of_another_origin_may_call_when_it_is_listed(client: httpx.AsyncClient) -> None:
    for origin, allowed in (("https://app.example.com", True), ("https://evil.example.com", False)):
        response = await client.get("/api/notes", headers={"Origin": origin})
        assert (response.headers.get("access-control-allow-origin") == origin) is allowed


async def test_requests_are_counted_by_route_template(client: httpx.AsyncClient, service: Service) -> None:
    await client.post(f"/api/notes/{uuid4()}", json=note(), headers=doctor())
    await client.request("PURGE", "/api/notes")
    await client.get(f"/nowhere/{uuid4()}")
    transport = httpx.ASGITransport(service.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://notes.test") as internal:
        metrics = (await internal.get("/metrics")).text
    assert re.search(r'http_requests_total\{method="POST",route="/api/notes/\{note_id\}",status="201"\} \d', metrics)
    assert 'method="OTHER"' in metrics
    assert "PURGE" not in metrics
    assert "nowhere" not in metrics


async def test_the_internal_port_wants_its_token(service: Service) -> None:
    transport = httpx.ASGITransport(service.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://notes.test") as internal:
        assert_problem(await internal.get("/internal/thing"), 401, "unauthorized")
        assert_problem(await internal.get("/internal/thing", headers=bearer("t" * 31 + "u")), 401, "unauthorized")
        assert (await internal.get("/internal/thing", headers=bearer("t" * 32))).status_code == 200


async def test_the_internal_routes_are_not_on_the_public_port(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/internal/thing", headers=bearer("t" * 32)), 404, "not_found")
    assert_problem(await client.get("/metrics"), 404, "not_found")


async def test_the_documents_page_names_no_other_host(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/docs/notes")
    assert page.headers["content-type"].startswith("text/html")
    addresses = re.findall(r'(?:src|href|data-url)="([^"]+)"', page.text)
    assert addresses
    assert all(address.startswith("/api/docs/notes/") for address in addresses)
    for address in addresses:
        assert (await client.get(address)).status_code == 200
    assert "://" not in page.text


async def test_the_documents_have_no_asset_of_another_name(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/api/docs/notes/assets/..%2f__init__.py"), 404, "not_found")


async def test_the_openapi_document_says_who_may_call(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/docs/notes/openapi.json")).json()
    assert document["security"] == [{"bearer": []}]
    assert document["paths"]["/api/notes"]["get"]["security"] == []
    assert "security" not in document["paths"]["/api/mine"]["get"]
