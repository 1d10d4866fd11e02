"""Every service answers 401 to a token with a single flaw, although the platform's own key signed it."""

import httpx
import pytest

from services.auth.sessions.keys import SigningKeys
from services.contracts.enums import Role
from tests.standalone.platform import Platform
from tests.support.issuer import Issuer, bad_tokens

# One path per service that answers 200 to every valid token of an admin.
PATHS = ("/api/auth/sessions", "/api/appointments", "/api/notifications/stats")


@pytest.fixture(scope="module")
def issuer(platform: Platform) -> Issuer:
    """Signs with the platform's own key."""
    return Issuer(*SigningKeys(platform.data_dir / "signing-keys.json").signer())


def get(client: httpx.Client, path: str, token: str) -> httpx.Response:
    return client.get(path, headers={b"Authorization": f"Bearer {token}".strip().encode()})


def test_every_service_accepts_a_token_without_a_flaw(client: httpx.Client, issuer: Issuer) -> None:
    token = issuer.token(role=Role.ADMIN)
    assert [get(client, path, token).status_code for path in PATHS] == [200, 200, 200]


@pytest.mark.parametrize("flaw", bad_tokens(Issuer()))
def test_every_service_refuses_a_token_with_a_flaw(client: httpx.Client, issuer: Issuer, flaw: str) -> None:
    token = bad_tokens(issuer)[flaw]
    for path in PATHS:
        answer = get(client, path, token)
        assert answer.status_code == 401, path
        assert answer.json()["code"] in ("invalid_token", "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
