"""An authenticator app, and the requests about one-time codes."""

import base64
from time import time
from typing import Any

import httpx

from services.auth.mfa import codes
from tests.auth.people import Person
from tests.support.canary import PASSWORD


class Authenticator:
    """Gives two codes: the present one and the next, as if its clock were fast. Both are valid while a test runs."""

    def __init__(self, secret: str) -> None:
        self._totp = codes._totp(base64.b32decode(secret))
        present = int(time()) // 30
        self._steps = iter((present, present + 1))

    def code(self) -> str:
        return self._totp.generate(next(self._steps) * 30).decode()

    def wrong(self) -> str:
        right = {self._totp.generate(int(time()) + offset).decode() for offset in range(-90, 91, 30)}
        return next(code for number in range(10) if (code := f"{number:06}") not in right)


async def log_in(client: httpx.AsyncClient, email: str, otp: str | None = None, **more: Any) -> httpx.Response:
    body = {"email": email, "password": PASSWORD, **({} if otp is None else {"otp": otp}), **more}
    return await client.post("/api/auth/login", json=body)


async def enrol(client: httpx.AsyncClient, person: Person, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/api/auth/mfa", json={"password": password}, headers=person.headers)


async def confirm(client: httpx.AsyncClient, person: Person, otp: str) -> httpx.Response:
    return await client.post("/api/auth/mfa/confirm", json={"otp": otp}, headers=person.headers)


async def disable(client: httpx.AsyncClient, person: Person, otp: str | None = None) -> httpx.Response:
    headers = person.headers | ({"X-OTP": otp} if otp else {})
    return await client.delete("/api/auth/mfa", headers=headers)


async def enable_mfa(client: httpx.AsyncClient, person: Person) -> tuple[Authenticator, list[str]]:
    """Return the person's authenticator and recovery codes."""
    app = Authenticator((await enrol(client, person)).json()["secret"])
    answer = await confirm(client, person, app.code())
    assert answer.status_code == 200, answer.text
    return app, answer.json()["recoveryCodes"]
