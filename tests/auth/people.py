"""Users who sign up and sign in. Each test makes its own."""

from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from services.auth.accounts.commands import NewAdmin, create_admin
from tests.support.canary import PASSWORD, called, new_email


def doctor_form(**fields: Any) -> dict[str, Any]:
    return {
        "fullname": called("Ada"),
        "email": new_email(),
        "password": PASSWORD,
        "speciality": "Cardiology",
        "experience": 12,
        "consultationFee": "99.50",
        "timeZone": "Europe/Berlin",
        **fields,
    }


def patient_form(**fields: Any) -> dict[str, Any]:
    return {"fullname": called("Bo"), "email": new_email(), "password": PASSWORD, **fields}


@dataclass
class Person:
    """A user who is signed in."""

    user: dict[str, Any]
    access_token: str
    refresh_token: str

    @property
    def id(self) -> str:
        return str(self.user["id"])

    @property
    def email(self) -> str:
        return str(self.user["email"])

    @property
    def session_id(self) -> str:
        return str(jwt.decode(self.access_token, options={"verify_signature": False})["sid"])

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}


class People:
    def __init__(self, client: httpx.AsyncClient, database_url: str) -> None:
        self._client, self._database_url = client, database_url
        self._admin: Person | None = None

    async def patient(self, **fields: Any) -> Person:
        return await self._signed_up("patients", patient_form(**fields))

    async def pending_doctor(self, **fields: Any) -> Person:
        return await self._signed_up("doctors", doctor_form(**fields))

    async def doctor(self, **fields: Any) -> Person:
        doctor = await self.pending_doctor(**fields)
        admin = await self.admin()
        answer = await self._client.post(f"/api/doctors/{doctor.id}/approve", headers=admin.headers)
        assert answer.status_code == 200, answer.text
        return doctor

    async def admin(self) -> Person:
        """Return an admin that all tests share. Use `new_admin` to change one."""
        if self._admin is None:
            self._admin = await self.new_admin()
        return self._admin

    async def new_admin(self) -> Person:
        email = new_email()
        assert await create_admin(self._database_url, NewAdmin(email=email, password=PASSWORD))
        return await self.signed_in("auth", email)

    async def signed_in(self, kind: str, email: str, password: str = PASSWORD) -> Person:
        answer = await self._client.post(f"/api/{kind}/login", json={"email": email, "password": password})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return Person(body["user"], body["accessToken"], body["refreshToken"])

    async def _signed_up(self, kind: str, form: dict[str, Any]) -> Person:
        answer = await self._client.post(f"/api/{kind}/signup", json=form)
        assert answer.status_code == 201, answer.text
        return await self.signed_in(kind, form["email"])
