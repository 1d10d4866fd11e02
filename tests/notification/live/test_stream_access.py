"""Who may listen to a live stream: by a token or a ticket, and until when."""

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import time

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from uuid_utils.compat import uuid7

from services.contracts.enums import Role, UserStatus
from services.contracts.events import SessionRevoked, UserState
from services.kit.auth import Principal
from services.kit.http.service import Service
from services.kit.signed_tokens import SignedTokens
from services.notification.directory.ended_sessions import EndedSessionRepository
from services.notification.directory.repository import UserRepository
from services.notification.live import service as live_service
from services.notification.live import stream as live_stream
from services.notification.repository import Store
from tests.notification.live.listening import listening, stored
from tests.notification.services import has_metric
from tests.support.auth_stub import AuthStub
from tests.support.streams import Streams


async def test_nobody_else_may_listen(client: httpx.AsyncClient, auth: AuthStub, patient: UserState) -> None:
    other, admin = auth.register(Role.PATIENT), auth.register(Role.ADMIN)
    path = f"/api/notifications/{patient.id}"
    for headers, status in ((auth.bearer(other), 404), (auth.bearer(admin), 403), ({}, 401)):
        for answer in (
            await client.get(f"{path}/stream", headers=headers),
            await client.post(f"{path}/stream-ticket", headers=headers),
        ):
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_a_ticket_opens_one_stream_in_place_of_a_token(
    url: str, client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams,
    patient: UserState,
) -> None:  # fmt: skip
    seen = await stored(store, patient)
    answer = await client.post(f"/api/notifications/{patient.id}/stream-ticket", headers=auth.bearer(patient))
    assert answer.status_code == 201
    ticket = answer.json()["ticket"]
    (key,) = await streams.redis.keys("notification:ticket:*")
    assert ticket not in repr([key, await streams.redis.get(key)])
    async with listening(url, patient.id, {}, ticket=ticket, lastEventId=str(uuid7())) as heard:
        await heard.has(seen.id)
        again = await client.get(f"/api/notifications/{patient.id}/stream", params={"ticket": ticket})
        assert (again.status_code, again.json()["code"]) == (401, "invalid_ticket")


async def test_a_ticket_that_was_planted_in_redis_opens_nothing(
    client: httpx.AsyncClient, auth: AuthStub, streams: Streams, patient: UserState, service: Service
) -> None:
    attacker = auth.register(Role.PATIENT)
    own = await client.post(f"/api/notifications/{attacker.id}/stream-ticket", headers=auth.bearer(attacker))
    (key,) = await streams.redis.keys("notification:ticket:*")
    signed = await streams.redis.get(key)
    assert own.status_code == 201
    assert signed
    victim = Principal(id=patient.id, role="PATIENT", session_id=uuid7(), expires_at=int(time()) + 600)
    forged = SignedTokens([b"a key of the attacker's own"])
    for planted in (msgspec.json.encode(victim), forged.issue(msgspec.json.encode(victim)), signed, b"\xff", b""):
        await streams.redis.set(f"notification:ticket:{sha256(b'mine').hexdigest()}", planted, ex=30)
        answer = await client.get(f"/api/notifications/{patient.id}/stream", params={"ticket": "mine"})
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_ticket")


async def test_a_ticket_that_expired_or_is_somebody_elses_opens_nothing(
    client: httpx.AsyncClient, auth: AuthStub, patient: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = auth.register(Role.PATIENT)
    path = f"/api/notifications/{patient.id}"

    async def ticket(user: UserState) -> str:
        answer = await client.post(f"/api/notifications/{user.id}/stream-ticket", headers=auth.bearer(user))
        return str(answer.json()["ticket"])

    async def refusal(given: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        answer = await client.get(f"{path}/stream", params={"ticket": given}, headers=headers)
        return answer.status_code, answer.json()["code"]

    assert await refusal(await ticket(other)) == (401, "invalid_ticket")
    assert await refusal("") == (401, "invalid_ticket")
    assert await refusal("nobody's", auth.bearer(patient)) == (401, "invalid_ticket")
    monkeypatch.setattr(live_service, "TICKET_SECONDS", 1)
    expiring = await ticket(patient)
    await asyncio.sleep(1.2)
    assert await refusal(expiring) == (401, "invalid_ticket")


async def test_a_ticket_ends_with_the_token_that_asked_for_it(
    url: str, client: httpx.AsyncClient, auth: AuthStub, patient: UserState
) -> None:
    token = auth.issuer.token(patient.id, patient.role, exp=int(time()) + 4)
    headers = {"Authorization": f"Bearer {token}"}
    answer = await client.post(f"/api/notifications/{patient.id}/stream-ticket", headers=headers)
    async with listening(url, patient.id, {}, ticket=answer.json()["ticket"]) as heard:
        assert not heard.ended.is_set()
        await heard.ends()


async def test_a_stream_ends_with_its_token(url: str, service: Service, auth: AuthStub, patient: UserState) -> None:
    token = auth.issuer.token(patient.id, patient.role, exp=int(time()) + 3)
    async with listening(url, patient.id, {"Authorization": f"Bearer {token}"}) as heard:
        assert not heard.ended.is_set()
        await heard.ends()
    await has_metric(service, 'notification_streams_ended_total{reason="expired"}', 1)


async def test_a_token_that_lives_by_the_leeway_alone_opens_no_stream(
    client: httpx.AsyncClient, auth: AuthStub, patient: UserState
) -> None:
    token = auth.issuer.token(patient.id, patient.role, exp=int(time()) - 5)
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/api/notifications/{patient.id}"
    assert (await client.get(path, headers=headers)).status_code == 200
    assert (await client.get(f"{path}/stream", headers=headers)).json()["code"] == "invalid_token"
    assert (await client.post(f"{path}/stream-ticket", headers=headers)).json()["code"] == "invalid_token"


async def test_a_suspended_account_gets_neither_stream_nor_ticket_and_an_open_one_ends(
    url: str, client: httpx.AsyncClient, auth: AuthStub, store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.2)
    mine, path = auth.bearer(patient), f"/api/notifications/{patient.id}"
    ticket = (await client.post(f"{path}/stream-ticket", headers=mine)).json()["ticket"]
    async with listening(url, patient.id, mine) as heard:
        await UserRepository(store).put(replace(patient, status=UserStatus.SUSPENDED, version=2))
        await heard.ends()
    for answer in (
        await client.get(f"{path}/stream", headers=mine),
        await client.get(f"{path}/stream", params={"ticket": ticket}),
        await client.post(f"{path}/stream-ticket", headers=mine),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")


async def test_a_session_that_ended_gets_neither_stream_nor_ticket_and_an_open_one_ends(
    url: str, client: httpx.AsyncClient, auth: AuthStub, store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.2)
    session, path = uuid7(), f"/api/notifications/{patient.id}"
    mine = {"Authorization": f"Bearer {auth.issuer.token(patient.id, patient.role, sid=str(session))}"}
    ticket = (await client.post(f"{path}/stream-ticket", headers=mine)).json()["ticket"]
    async with listening(url, patient.id, mine) as heard:
        expires_at = datetime.now(UTC) + timedelta(minutes=20)
        ended = SessionRevoked(session_id=session, user_id=patient.id, expires_at=expires_at)
        await EndedSessionRepository(store).add(ended)
        await heard.ends()
    for answer in (
        await client.get(f"{path}/stream", headers=mine),
        await client.get(f"{path}/stream", params={"ticket": ticket}),
        await client.post(f"{path}/stream-ticket", headers=mine),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")
