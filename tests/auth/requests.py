"""Requests that the tests of several features send."""

from typing import Any

import httpx

from tests.auth.people import Person
from tests.support.canary import PASSWORD

NEW_PASSWORD = "another horse battery"


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def log_in(client: httpx.AsyncClient, email: str, password: str = PASSWORD, **fields: Any) -> httpx.Response:
    return await client.post("/api/auth/login", json={"email": email, "password": password, **fields})


async def login_status(client: httpx.AsyncClient, email: str, password: str = PASSWORD) -> int:
    return (await log_in(client, email, password)).status_code


async def refresh(client: httpx.AsyncClient, refresh_token: str) -> httpx.Response:
    return await client.post("/api/auth/refresh", json={"refreshToken": refresh_token})


async def change_password(
    client: httpx.AsyncClient, person: Person, current: str = PASSWORD, new: str = NEW_PASSWORD
) -> httpx.Response:
    body = {"currentPassword": current, "password": new}
    return await client.post("/api/auth/password", json=body, headers=person.headers)


async def request_reset(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post("/api/auth/password-reset", json={"email": email})


async def confirm_reset(client: httpx.AsyncClient, token: str, password: str = NEW_PASSWORD) -> httpx.Response:
    return await client.post("/api/auth/password-reset/confirm", json={"token": token, "password": password})


async def verify_email(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/auth/verify-email", json={"token": token})


async def account_of(client: httpx.AsyncClient, person: Person) -> dict[str, Any]:
    """Return the account as its owner sees it."""
    return dict((await client.get("/api/auth", headers=person.headers)).json())
