"""An entry that does not decode or keeps failing becomes a dead letter; one that meets an outage is retried."""

from typing import Any

import msgspec
import pytest

from services.kit.streams.events import DeadLetter, decode_entry
from tests.kit.streams.consuming import (
    GROUP,
    ConsumingService,
    Received,
    StoreAway,
    decode,
    entry,
    nothing_is_pending,
    pending,
    send,
)
from tests.support.store import STREAM, Store, ThingChanged
from tests.support.waiting import eventually, running

BROKEN: dict[str, dict[str, Any]] = {
    "no JSON": {"payload": "{"},
    "deep JSON": {"payload": "[" * 100_000},
    "not UTF-8": {"payload": b'{"type": "ThingChanged", "thing": "\xff", "version": 1}'},
    "a NUL": {"payload": b"\0"},
    "an unknown type": {"payload": '{"type": "FromTheFuture"}'},
    "a field missing": {"payload": '{"type": "ThingChanged", "thing": "x"}'},
    "no version": {"version": "x"},
    "no id": {"id": "x"},
    "a megabyte": {"payload": "x" * 1_000_000},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN.keys())
async def test_an_entry_that_does_not_decode_is_stored_as_a_dead_letter_before_it_is_acknowledged(
    stream: Store, changes: dict[str, Any]
) -> None:
    service = ConsumingService()
    pending_while_stored = []
    await stream.connection.execute("CREATE TEMP TABLE IF NOT EXISTS dead_letters (letter jsonb, error text)")

    async def dead_letter(letter: DeadLetter) -> None:
        await stream.connection.execute(
            "INSERT INTO dead_letters VALUES ($1, $2)", msgspec.json.encode(letter).decode(), letter.error
        )
        pending_while_stored.append(await pending(stream))
        await service.dead_letter(letter)

    await stream.redis.xadd(STREAM, entry(1, **changes), id="5-0")
    async with running(service.consumer(stream, dead_letter=dead_letter).run):
        await eventually(lambda: len(service.letters) == 1)
        await nothing_is_pending(stream)
    (letter,) = service.letters
    assert pending_while_stored == [1]
    assert (letter.stream, letter.group, letter.entry_id, letter.reason) == (STREAM, GROUP, "5-0", "undecodable")
    assert service.registry.get_sample_value("events_dead_letters_total", {"stream": STREAM}) == 1
    with pytest.raises((ValueError, RecursionError)):
        decode_entry(letter.entry_id, letter.fields, decode)


async def test_an_entry_without_the_fields_of_an_event_becomes_a_dead_letter(stream: Store) -> None:
    service = ConsumingService()
    await stream.redis.xadd(STREAM, {"greeting": "hello"})
    async with running(service.consumer(stream).run):
        await eventually(lambda: len(service.letters) == 1)
    assert service.letters[0].fields == {"greeting": "hello"}


async def test_an_event_that_fails_eight_times_becomes_a_dead_letter_that_can_be_replayed(stream: Store) -> None:
    service = ConsumingService()
    attempts = 0

    async def handle(envelope: Received) -> None:
        nonlocal attempts
        attempts += 1
        assert await pending(stream) == 1
        raise ValueError(f"attempt {attempts}")

    await send(stream, 3)
    async with running(service.consumer(stream, handle=handle).run):
        await eventually(lambda: len(service.letters) == 1)
        await nothing_is_pending(stream)
    (letter,) = service.letters
    assert attempts == 8
    assert (letter.reason, letter.error) == ("failing", "ValueError: attempt 8")
    assert decode_entry(letter.entry_id, letter.fields, decode).event == ThingChanged("some thing", 3)


async def test_an_event_is_retried_during_an_outage_and_becomes_no_dead_letter(stream: Store) -> None:
    service = ConsumingService()
    attempts = 0

    async def handle(envelope: Received) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 7:
            raise ValueError
        if attempts <= 20:
            raise StoreAway
        await service.handle(envelope)

    await send(stream, 1)
    async with running(service.consumer(stream, handle=handle).run):
        await eventually(lambda: len(service.handled) == 1)
        await nothing_is_pending(stream)
    assert service.letters == []
    counted = {"stream": STREAM, "type": "ThingChanged"}
    by_outcome = {
        outcome: service.registry.get_sample_value("events_handled_total", counted | {"outcome": outcome})
        for outcome in ("handled", "failed", "outage")
    }
    assert by_outcome == {"handled": 1, "failed": 7, "outage": 13}


@pytest.mark.parametrize("error", [StoreAway, ValueError])
async def test_a_dead_letter_that_cannot_be_stored_is_retried_until_it_can(
    stream: Store, error: type[Exception]
) -> None:
    service = ConsumingService()
    attempts = 0

    async def dead_letter(letter: DeadLetter) -> None:
        nonlocal attempts
        attempts += 1
        assert await pending(stream) == 1
        if attempts <= 12:
            raise error
        await service.dead_letter(letter)

    await stream.redis.xadd(STREAM, entry(1, payload="{"))
    async with running(service.consumer(stream, dead_letter=dead_letter).run):
        await eventually(lambda: len(service.letters) == 1)
        await nothing_is_pending(stream)
    assert attempts == 13
