"""Which callers reach a handler, on the public and on the internal port."""

from uuid import uuid4

import httpx
import pytest

from services.kit.http.service import Service
from tests.kit.http.notes import note
from tests.kit.http.services import assert_problem, bearer, issuer


async def test_a_caller_without_a_token_is_401(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/mine")
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "bearer\u00e9"])
async def test_a_malformed_authorization_header_is_401(client: httpx.AsyncClient, header: str) -> None:
    response = await client.get("/api/mine", headers={b"authorization": header.encode("latin-1")})
    assert_problem(response, 401, "unauthorized")


async def test_a_bad_token_is_401_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json={"zz": 1}, headers=bearer(issuer.token(exp=1)))
    assert_problem(response, 401, "invalid_token")


async def test_a_public_route_ignores_a_bad_token(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/notes", headers=bearer("x.y.z"))).status_code == 200


async def test_the_wrong_role_is_403(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json=note(), headers=bearer(issuer.token()))
    assert_problem(response, 403, "forbidden")


async def test_the_caller_reaches_the_handler(client: httpx.AsyncClient) -> None:
    user = uuid4()
    assert (await client.get("/api/mine", headers=bearer(issuer.token(user)))).json() == {"id": str(user)}


async def test_the_internal_port_requires_its_token(service: Service) -> None:
    transport = httpx.ASGITransport(service.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://notes.test") as internal:
        assert_problem(await internal.get("/internal/thing"), 401, "unauthorized")
        assert_problem(await internal.get("/internal/thing", headers=bearer("t" * 31 + "u")), 401, "unauthorized")
        assert (await internal.get("/internal/thing", headers=bearer("t" * 32))).status_code == 200


async def test_the_internal_routes_are_not_on_the_public_port(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/internal/thing", headers=bearer("t" * 32)), 404, "not_found")
    assert_problem(await client.get("/metrics"), 404, "not_found")
