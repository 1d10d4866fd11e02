import base64

import pytest

from services.kit.signed_tokens import SignedTokens

KEY, OTHER = b"k" * 32, b"o" * 32


def test_a_token_contains_its_payload_but_not_its_context() -> None:
    tokens = SignedTokens([KEY])
    token = tokens.issue(b"payload", b"user-1")
    assert tokens.read(token, b"user-1") == b"payload"
    assert b"user-1" not in base64.urlsafe_b64decode(token)


@pytest.mark.parametrize("context", [b"", b"user-2", b"user-"])
def test_a_token_is_read_only_in_its_own_context(context: bytes) -> None:
    tokens = SignedTokens([KEY])
    assert tokens.read(tokens.issue(b"payload", b"user-1"), context) is None


def test_a_replaced_key_still_verifies_and_no_longer_signs() -> None:
    token = SignedTokens([OTHER]).issue(b"payload")
    assert SignedTokens([KEY, OTHER]).read(token) == b"payload"
    assert SignedTokens([KEY]).read(token) is None
    assert SignedTokens([KEY]).read(SignedTokens([KEY, OTHER]).issue(b"payload")) == b"payload"


@pytest.mark.parametrize("token", ["", "x", "é", "a b", "=", "AAAA", base64.urlsafe_b64encode(b"x" * 48).decode()])
def test_a_token_without_a_valid_signature_is_not_read(token: str) -> None:
    assert SignedTokens([KEY]).read(token) is None


def test_a_changed_payload_is_not_read() -> None:
    raw = bytearray(base64.urlsafe_b64decode(SignedTokens([KEY]).issue(b"payload")))
    raw[0] ^= 1
    assert SignedTokens([KEY]).read(base64.urlsafe_b64encode(raw).decode()) is None
