from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.kit.errors import Unavailable
from services.kit.streams.consumer import Consumer
from services.kit.streams.events import DeadLetter, Envelope, EventMetrics
from services.kit.streams.signatures import SIGNATURE, ForgedEvent, SignatureVerifier, signature_of
from tests.support.issuer import Issuer
from tests.support.store import Store
from tests.support.waiting import eventually, running

STREAM = "things.changed"
FIELDS = {
    "id": "019a2057-0000-7000-8000-000000000000",
    "type": "ThingChanged",
    "aggregateid": "thing",
    "version": "1",
    "payload": '{"name": "thing"}',
    "created_at": "2026-12-01T09:30:00Z",
}


@pytest.fixture
def writer() -> Issuer:
    return Issuer("writer")


def verifier_of(*issuers: Issuer, stream: str = STREAM) -> SignatureVerifier:
    keys = {issuer.key_id: issuer.key.public_key() for issuer in issuers}

    async def find(key_id: str) -> Any:
        return keys.get(key_id)

    return SignatureVerifier(stream, find)


def signed(issuer: Issuer, stream: str = STREAM) -> dict[str, str]:
    return FIELDS | {SIGNATURE: signature_of(stream, FIELDS, issuer.sign)}


async def test_an_entry_that_the_writer_signed_is_accepted_with_any_context(writer: Issuer) -> None:
    await verifier_of(writer).check(signed(writer) | {"traceparent": "00-…", "request_id": "r"})


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("change", ["changed", "absent"])
async def test_a_change_of_any_field_that_has_an_effect_is_refused(writer: Issuer, field: str, change: str) -> None:
    entry = signed(writer)
    entry[field] += "1"
    if change == "absent":
        del entry[field]
    with pytest.raises(ForgedEvent):
        await verifier_of(writer).check(entry)


@pytest.mark.parametrize("signature", ["", ".", "writer", "writer.", "writer.AAAA", "writer.!!", "nobody.AAAA", "é.é"])
async def test_a_malformed_signature_is_refused(writer: Issuer, signature: str) -> None:
    with pytest.raises(ForgedEvent):
        await verifier_of(writer).check(FIELDS | {SIGNATURE: signature})


async def test_no_signature_and_one_by_another_key_and_one_for_another_stream_are_refused(writer: Issuer) -> None:
    for entry in (FIELDS, signed(Issuer("writer")), signed(Issuer("stranger")), signed(writer, "other.stream")):
        with pytest.raises(ForgedEvent):
            await verifier_of(writer).check(entry)


async def test_a_token_by_the_same_key_is_not_a_signature_of_an_event(writer: Issuer) -> None:
    token = writer.token()
    head, body, signature = token.split(".")
    forged = FIELDS | {"payload": f"{head}.{body}", SIGNATURE: f"writer.{signature}=="}
    with pytest.raises(ForgedEvent):
        await verifier_of(writer).check(forged)


@pytest.fixture
async def consume(store: Store) -> Callable[..., Awaitable[tuple[list[str], list[DeadLetter]]]]:
    """Return a function that consumes the given entries with `check`, and returns what was handled and the letters."""

    async def consume(check: Any, *entries: dict[str, str]) -> tuple[list[str], list[DeadLetter]]:
        await store.redis.xgroup_create(STREAM, "readers", "0", mkstream=True)
        for entry in entries:
            await store.redis.xadd(STREAM, entry)
        handled: list[str] = []
        letters: list[DeadLetter] = []

        async def handle(envelope: Envelope[str]) -> None:
            handled.append(envelope.event)

        async def dead_letter(letter: DeadLetter) -> None:
            letters.append(letter)

        consumer = Consumer(
            redis_url=store.redis_url,
            stream=STREAM,
            group="readers",
            decode=str,
            handle=handle,
            dead_letter=dead_letter,
            is_outage=lambda error: isinstance(error, Unavailable),
            metrics=EventMetrics(CollectorRegistry()),
            check=check,
        )
        async with running(consumer.run):
            await eventually(lambda: len(handled) + len(letters) >= len(entries))
        return handled, letters

    return consume


async def test_a_forged_event_is_a_dead_letter_at_once_and_has_no_effect(consume: Any, writer: Issuer) -> None:
    handled, letters = await consume(verifier_of(writer).check, FIELDS, signed(writer))
    assert handled == [FIELDS["payload"]]
    assert [(letter.reason, letter.error.partition(":")[0]) for letter in letters] == [("forged", "ForgedEvent")]


async def test_a_forged_event_that_does_not_decode_is_forged_too(consume: Any, writer: Issuer) -> None:
    """Otherwise its dead letter, in which the bytes are escaped, could be replayed without the check."""
    forged: dict[Any, Any] = {name.encode(): value.encode() for name, value in FIELDS.items()} | {b"note": b"\xff"}
    _, letters = await consume(verifier_of(writer).check, forged, signed(writer))
    assert [letter.reason for letter in letters] == ["forged"]


async def test_an_event_is_retried_for_as_long_as_the_keys_are_unavailable(consume: Any, writer: Issuer) -> None:
    outages = iter([True] * 10)  # more than the failures after which an event becomes a dead letter

    async def find(_: str) -> Any:
        if next(outages, False):
            raise Unavailable
        return writer.key.public_key()

    handled, letters = await consume(SignatureVerifier(STREAM, find).check, signed(writer))
    assert (handled, letters) == ([FIELDS["payload"]], [])
