import asyncio
from time import time
from uuid import uuid4

import jwt
import pytest
from _pytest.mark import ParameterSet

from services.contracts.enums import Role
from services.kit.auth import (
    AccountSuspended,
    InvalidToken,
    KnownCaller,
    Principal,
    SessionEnded,
    TokenVerifier,
    check_caller,
)
from services.kit.errors import Forbidden, ProblemError, Unavailable
from tests.support.issuer import AUDIENCE, ISSUER, Issuer, bad_tokens
from tests.support.waiting import eventually


class Published:
    """auth's endpoint, which answers nothing without an `issuer`, and the service's own store."""

    def __init__(self, issuer: Issuer | None, stored: bytes | None = None) -> None:
        self.issuer, self.stored = issuer, stored
        self.fetches = 0

    async def fetch(self) -> bytes:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.issuer is None:
            raise ConnectionRefusedError
        return self.issuer.jwks

    async def load(self) -> bytes | None:
        return self.stored

    async def save(self, document: bytes) -> None:
        self.stored = document

    def verifier(self) -> TokenVerifier:
        return TokenVerifier(issuer=ISSUER, audience=AUDIENCE, fetch=self.fetch, store=self)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


async def test_a_valid_token_names_its_caller(issuer: Issuer) -> None:
    published = Published(issuer)
    verifier = published.verifier()
    token = issuer.token(role=Role.DOCTOR)
    principal = await verifier.verify(token)
    assert principal.role == "DOCTOR"
    assert str(principal.id) == jwt.decode(token, options={"verify_signature": False})["sub"]
    assert await verifier.verify(token) is principal


def cases() -> list[ParameterSet]:
    issuer = Issuer()
    document = issuer.jwks.decode()
    return [pytest.param(document, token, id=name) for name, token in bad_tokens(issuer).items()]


@pytest.mark.parametrize(("document", "token"), cases())
async def test_a_bad_token_is_refused(document: str, token: str) -> None:
    published = Published(None, document.encode())
    published.fetch = lambda: _answer(document)  # type: ignore[method-assign]
    with pytest.raises(InvalidToken):
        await published.verifier().verify(token)


async def _answer(document: str) -> bytes:
    return document.encode()


async def test_a_token_within_the_leeway_is_accepted(issuer: Issuer) -> None:
    now = int(time())
    principal = await Published(issuer).verifier().verify(issuer.token(iat=now + 20, exp=now - 20))
    assert principal.role == Role.PATIENT


async def test_unknown_keys_do_not_make_a_storm_of_fetches(issuer: Issuer) -> None:
    published = Published(issuer)
    verifier = published.verifier()
    await verifier.verify(issuer.token())
    forged = [Issuer(f"made-up-{number}").token() for number in range(50)]
    results = await asyncio.gather(*(verifier.verify(token) for token in forged), return_exceptions=True)
    assert {type(result) for result in results} == {InvalidToken}
    assert published.fetches == 1


async def test_without_keys_verification_is_unavailable_and_not_refused(issuer: Issuer) -> None:
    with pytest.raises(Unavailable):
        await Published(None).verifier().verify(issuer.token())


async def verifies(verifier: TokenVerifier, token: str) -> bool:
    try:
        await verifier.verify(token)
    except Unavailable:
        return False
    return True


async def test_a_process_that_starts_while_auth_is_down_verifies_with_the_stored_keys(issuer: Issuer) -> None:
    verifier = Published(None, issuer.jwks).verifier()
    stop = asyncio.Event()
    refreshing = asyncio.create_task(verifier.refreshing()(stop))
    await eventually(lambda: verifies(verifier, issuer.token()))
    stop.set()
    await refreshing


async def test_the_keys_are_stored_as_soon_as_the_store_answers_and_no_request_waits_for_that(issuer: Issuer) -> None:
    published = Published(issuer)
    away = asyncio.Event()

    async def save(document: bytes) -> None:
        await away.wait()
        published.stored = document

    published.save = save  # type: ignore[method-assign]
    verifier, stop = published.verifier(), asyncio.Event()
    refreshing = asyncio.create_task(verifier.refreshing()(stop))
    await verifier.verify(issuer.token())
    assert published.stored is None
    away.set()
    stop.set()
    await refreshing
    assert published.stored == issuer.jwks


async def test_the_stored_keys_are_read_again_until_the_store_answers(issuer: Issuer) -> None:
    published = Published(None, issuer.jwks)
    load, failures = published.load, iter([Unavailable()])

    async def load_later() -> bytes | None:
        for failure in failures:
            raise failure
        return await load()

    published.load = load_later  # type: ignore[method-assign]
    verifier, stop = published.verifier(), asyncio.Event()
    refreshing = asyncio.create_task(verifier.refreshing()(stop))
    await eventually(lambda: verifies(verifier, issuer.token()))
    stop.set()
    await refreshing


async def test_a_withdrawn_key_verifies_no_token_any_more(issuer: Issuer) -> None:
    published = Published(issuer)
    verifier = published.verifier()
    token = issuer.token()
    await verifier.verify(token)
    published.issuer = Issuer("next")
    await verifier._refresh()
    with pytest.raises(InvalidToken):
        await verifier.verify(token)


def a_principal(role: Role) -> Principal:
    return Principal(id=uuid4(), role=role, session_id=uuid4(), expires_at=0)


@pytest.mark.parametrize("role", [Role.DOCTOR, None])
def test_a_caller_with_the_role_of_the_token_passes(role: str | None) -> None:
    check_caller(a_principal(Role.DOCTOR), KnownCaller(role, suspended=False, session_ended=False))


@pytest.mark.parametrize(
    ("known", "refusal"),
    [
        (KnownCaller(Role.DOCTOR, suspended=True, session_ended=False), AccountSuspended),
        (KnownCaller(Role.DOCTOR, suspended=False, session_ended=True), SessionEnded),
        (KnownCaller(None, suspended=False, session_ended=True), SessionEnded),
        (KnownCaller(Role.PATIENT, suspended=False, session_ended=False), Forbidden),
    ],
)
def test_a_token_of_a_suspended_account_an_ended_session_or_another_role_is_refused(
    known: KnownCaller, refusal: type[ProblemError]
) -> None:
    with pytest.raises(refusal):
        check_caller(a_principal(Role.DOCTOR), known)
