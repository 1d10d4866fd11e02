"""A token that is bad in whatever way is a 401 at every service, although here all but its flaw is genuine."""

import httpx
import pytest

from services.auth.sessions.keys import SigningKeys
from services.contracts.enums import Role
from tests.standalone.platform import Platform
from tests.support.issuer import Issuer, bad_tokens

# Answered by each service to any token that it takes, whosever it is.
PATHS = ("/api/auth/sessions", "/api/appointments", "/api/notifications/stats")


@pytest.fixture(scope="module")
def issuer(platform: Platform) -> Issuer:
    """With the platform's own signing key."""
    return Issuer(*SigningKeys(platform.data_dir / "signing-keys.json").signer())


def ask(client: httpx.Client, path: str, token: str) -> httpx.Response:
    return client.get(path, headers={b"Authorization": f"Bearer {token}".strip().encode()})


def test_a_good_token_of_the_same_make_is_taken_by_all(client: httpx.Client, issuer: Issuer) -> None:
    token = issuer.token(role=Role.ADMIN)
    assert [ask(client, path, token).status_code for path in PATHS] == [200, 200, 200]


@pytest.mark.parametrize("flaw", bad_tokens(Issuer()))
def test_a_bad_token_is_refused_by_all(client: httpx.Client, issuer: Issuer, flaw: str) -> None:
    token = bad_tokens(issuer)[flaw]
    for path in PATHS:
        answer = ask(client, path, token)
        assert answer.status_code == 401, path
        assert answer.json()["code"] in ("invalid_token", "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
