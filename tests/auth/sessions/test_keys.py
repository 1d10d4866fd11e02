import json
import stat
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from services.auth.sessions import keys
from services.auth.sessions.keys import KeyFile, SigningKey, SigningKeys, rotate
from services.auth.sessions.tokens import AccessTokens
from services.contracts.enums import Role
from services.kit.auth import InvalidToken, TokenVerifier


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signing.json"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 0.0)


def _read(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["keys"]
    return found


def _age(path: Path, *ages_seconds: int) -> None:
    """Set the ages of the keys in the file, from the first to the last."""
    found = [SigningKey(**key) for key in _read(path)]
    aged = [
        SigningKey(kid=key.kid, x=key.x, d=key.d, iat=int(time()) - age)
        for key, age in zip(found, ages_seconds, strict=True)
    ]
    keys._write(path, KeyFile(aged))


def _published(signing: SigningKeys) -> set[str]:
    return {key["kid"] for key in json.loads(signing.public_document)["keys"]}


def test_the_first_key_signs_at_once_and_its_file_is_private(path: Path) -> None:
    added, dropped = rotate(path)
    assert dropped == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    signing = SigningKeys(path)
    assert signing.signer()[0] == added
    assert _published(signing) == {added}


def test_a_new_key_is_published_at_once_and_signs_after_five_minutes(path: Path) -> None:
    first, _ = rotate(path)
    _age(path, 1000)
    signing = SigningKeys(path)
    second, _ = rotate(path)
    assert _published(signing) == {first, second}
    assert signing.signer()[0] == first
    _age(path, 1000, 240)
    assert signing.signer()[0] == first
    _age(path, 1000, 301)
    assert signing.signer()[0] == second


def test_the_older_of_two_new_keys_signs(path: Path) -> None:
    first, _ = rotate(path)
    rotate(path)
    assert SigningKeys(path).signer()[0] == first


def test_a_key_is_dropped_when_its_last_token_has_expired(path: Path) -> None:
    first, _ = rotate(path)
    second, _ = rotate(path)
    third, dropped = rotate(path)
    assert dropped == 0
    _age(path, 9000, 900 + 300 + 240, 10)
    fourth, dropped = rotate(path)
    assert (dropped, [key["kid"] for key in _read(path)]) == (0, [first, second, third, fourth])
    _age(path, 9000, 900 + 300 + 301, 10, 5)
    fifth, dropped = rotate(path)
    assert (dropped, [key["kid"] for key in _read(path)]) == (1, [second, third, fourth, fifth])


async def test_a_dropped_key_still_verifies_the_events_that_it_signed_and_no_token(path: Path) -> None:
    rotate(path)
    signing = SigningKeys(path)
    key_id, signature = signing.sign(b"an event")
    token = AccessTokens(signing, issuer="us", audience="us", seconds=900).issue(uuid4(), Role.PATIENT, uuid4())
    rotate(path)
    _age(path, 9000, 900 + 300 + 301)
    assert rotate(path)[1] == 1

    async def fetch() -> bytes:
        return signing.public_document

    verifier = TokenVerifier(issuer="us", audience="us", fetch=fetch)
    (await verifier.find_key(key_id)).verify(signature, b"an event")
    with pytest.raises(InvalidToken):
        await verifier.verify(token)
    assert await verifier.find_key("unknown") is None


def test_a_retired_key_is_forgotten_after_a_month(path: Path) -> None:
    rotate(path)
    file = keys._read(path)[1]
    old, young = (
        keys.RetiredKey(kid=kid, x=file.keys[0].x, retired_at=int(time()) - days * 86_400)
        for kid, days in (("old", 31), ("young", 29))
    )
    keys._write(path, KeyFile(file.keys, [old, young]))
    rotate(path)
    assert [key.kid for key in keys._read(path)[1].retired] == ["young"]


def test_the_private_part_is_never_published(path: Path) -> None:
    rotate(path)
    document = SigningKeys(path).public_document
    assert _read(path)[0]["d"].encode() not in document
    assert set(json.loads(document)["keys"][0]) == {"kty", "crv", "kid", "x", "alg", "use"}


_NO_KEY = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "?", "d": "?", "iat": 1}]}'


@pytest.mark.parametrize("content", ["", "{}", '{"keys": []}', '{"keys": [{"kty": "RSA"}]}', _NO_KEY])
def test_an_unreadable_file_leaves_the_loaded_keys_in_use(path: Path, content: str) -> None:
    first, _ = rotate(path)
    signing = SigningKeys(path)
    path.write_text(content)
    assert signing.signer()[0] == first
    path.unlink()
    assert _published(signing) == {first}
    second, _ = rotate(path)
    assert _published(signing) == {second}


def test_the_file_is_read_again_only_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotate(path)
    signing = SigningKeys(path)
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 60.0)
    rotate(path)
    assert len(_published(signing)) == 1


async def test_a_rotation_rejects_no_token(path: Path) -> None:
    rotate(path)
    _age(path, 1000)
    signing = SigningKeys(path)
    tokens = AccessTokens(signing, issuer="us", audience="us", seconds=900)

    async def fetch() -> bytes:
        return signing.public_document

    verifier = TokenVerifier(issuer="us", audience="us", fetch=fetch)
    before = tokens.issue(uuid4(), Role.PATIENT, uuid4())
    await verifier.verify(before)
    rotate(path)
    during = tokens.issue(uuid4(), Role.PATIENT, uuid4())
    assert jwt.get_unverified_header(during)["kid"] == jwt.get_unverified_header(before)["kid"]
    await verifier._refresh()  # as it does every 30 s
    _age(path, 1000, 301)
    after = tokens.issue(uuid4(), Role.PATIENT, uuid4())
    assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]
    for token in (before, during, after):
        await verifier.verify(token)
    stranger = path.with_name("stranger.json")
    rotate(stranger)
    forged = AccessTokens(SigningKeys(stranger), issuer="us", audience="us", seconds=900)
    with pytest.raises(InvalidToken):
        await verifier.verify(forged.issue(uuid4(), Role.ADMIN, uuid4()))


async def test_the_public_keys_need_no_credentials(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/auth/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    (key,) = answer.json()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")


async def test_the_keys_are_published_on_the_internal_port_too(
    client: httpx.AsyncClient, internal: httpx.AsyncClient
) -> None:
    path = "/api/auth/.well-known/jwks.json"
    inside = (await internal.get(path)).raise_for_status()
    assert inside.content == (await client.get(path)).raise_for_status().content
    assert inside.headers["content-type"] == "application/json"
