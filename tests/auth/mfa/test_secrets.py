"""The algorithm of one-time codes, and how their secrets are stored."""

import base64
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
from msgspec.structs import replace

from services.auth.app import create
from services.auth.mails.links import LinkTokens
from services.auth.mfa import codes
from services.auth.mfa.codes import FactorSecrets
from services.auth.settings import Settings
from services.kit.subkeys import Subkeys
from tests.auth.mfa.authenticator import Authenticator, confirm, enable_mfa, enrol, log_in
from tests.auth.people import People
from tests.support.running import client_of


def test_codes_follow_rfc_6238() -> None:
    secret = b"12345678901234567890"
    assert codes.step_of("287082", secret, 59) == 1
    step = 1111111109 // 30
    for now, found in ((step - 2, None), (step - 1, step), (step + 1, step), (step + 2, None)):
        assert codes.step_of("081804", secret, now * 30) == found
    assert codes.step_of("28708", secret, 59) is None


async def test_the_database_has_no_plain_secret_or_recovery_code(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    body = (await enrol(client, patient)).json()
    secret = base64.b32decode(body["secret"])
    recovery = (await confirm(client, patient, Authenticator(body["secret"]).code())).json()["recoveryCodes"]
    row = await owner.fetchrow("SELECT secret FROM second_factors WHERE user_id = $1", patient.id)
    assert secret not in row["secret"]
    hashes = await owner.fetch(
        "SELECT code_hash FROM recovery_codes JOIN second_factors ON id = factor_id WHERE user_id = $1", patient.id
    )
    assert len(hashes) == 10
    kept = b"".join(row["code_hash"] for row in hashes)
    assert not any(code.replace("-", "").encode() in kept for code in recovery)


def test_an_encrypted_secret_is_bound_to_its_account_and_key() -> None:
    user, secrets = uuid4(), FactorSecrets([b"k" * 32], [b"h" * 32])
    sealed = secrets.encrypted(b"secret", user)
    assert secrets.decrypted(sealed, user) == b"secret"
    assert secrets.encrypted(b"secret", user) != sealed
    assert secrets.decrypted(sealed, UUID(int=1)) is None
    assert FactorSecrets([b"x" * 32], [b"h" * 32]).decrypted(sealed, user) is None


async def test_secrets_of_the_previous_key_are_accepted_and_renewed(
    client: httpx.AsyncClient, people: People, settings: Settings, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    app, recovery = await enable_mfa(client, patient)
    device = (await log_in(client, patient.email, recovery[0])).json()["deviceToken"]
    key = "another-secret-key-of-the-tests-9876543210"
    changed = replace(settings, auth_secret_key=key, auth_previous_secret_key=settings.auth_secret_key)
    async with client_of(create(changed)) as after:
        answer = await log_in(after, patient.email, app.code(), deviceToken=device)
        assert answer.json()["deviceToken"] == device
        assert (await log_in(after, patient.email, recovery[1])).status_code == 200
    sealed = await owner.fetchval("SELECT secret FROM second_factors WHERE user_id = $1", patient.id)
    assert FactorSecrets.of(Subkeys(key, None)).decrypted(sealed, UUID(patient.id)) is not None
    before, both = Subkeys(settings.auth_secret_key, None), Subkeys(key, settings.auth_secret_key)
    link = LinkTokens(before.of("mailed links")).token_of(UUID(patient.id))
    assert LinkTokens(both.of("mailed links")).mail_of(link) == UUID(patient.id)
    assert LinkTokens(Subkeys(key, None).of("mailed links")).mail_of(link) is None
