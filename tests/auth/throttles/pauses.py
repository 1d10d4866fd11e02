"""Login attempts, and the pauses that failures cause."""

from typing import Any

import asyncpg
import httpx

CLIENT = "203.0.113.7"


async def attempt(
    client: httpx.AsyncClient, email: str, password: str = "wrong", *, seen_at: str | None = None, **more: Any
) -> httpx.Response:
    headers = {"X-Forwarded-For": seen_at} if seen_at else {}
    body = {"email": email, "password": password, **more}
    return await client.post("/api/auth/login", json=body, headers=headers)


async def statuses(client: httpx.AsyncClient, email: str, times: int, **more: Any) -> list[int]:
    return [(await attempt(client, email, **more)).status_code for _ in range(times)]


async def end_pauses(owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE throttles SET blocked_until = now() WHERE blocked_until > now()")


async def make_pauses_last(owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE throttles SET blocked_until = now() + interval '1 minute' WHERE blocked_until > now()")


def assert_paused(answer: httpx.Response, at_most: int) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests"), answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= at_most
