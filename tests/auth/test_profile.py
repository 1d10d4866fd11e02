"""What the caller reads about themselves."""

import httpx

from tests.auth.people import People


async def test_the_own_account_takes_a_valid_token(client: httpx.AsyncClient, people: People) -> None:
    assert (await client.get("/api/auth")).status_code == 401
    bad = await client.get("/api/auth", headers={"Authorization": "Bearer x.y.z"})
    assert (bad.status_code, bad.json()["code"]) == (401, "invalid_token")


async def test_the_export_has_the_callers_own_data(client: httpx.AsyncClient, people: People) -> None:
    patient, other, admin = await people.patient(), await people.patient(), await people.admin()
    assert (await client.get(f"/api/patients/{patient.id}", headers=admin.headers)).status_code == 200
    answer = await client.get("/api/auth/export", headers=patient.headers)
    assert answer.status_code == 200, answer.text
    data = answer.json()
    assert data["account"] == (await client.get("/api/auth", headers=patient.headers)).json()
    assert [session["current"] for session in data["sessions"]] == [True]
    entries = {one["action"]: one for one in data["audit"]}
    assert set(entries) == {"account.created", "login.succeeded", "record.read", "account.exported"}
    assert entries["login.succeeded"]["address"] == "127.0.0.1"
    # The export names the admin who read the account, without the admin's address.
    assert (entries["record.read"]["actorId"], entries["record.read"]["address"]) == (admin.id, None)
    for secret in (other.id, other.email, patient.refresh_token, "password", "hash", "successor"):
        assert secret not in answer.text
