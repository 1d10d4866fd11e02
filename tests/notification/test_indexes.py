"""The unique index that keeps the promise, and the index under each query as MongoDB's profiler saw it."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pymongo.errors import DuplicateKeyError
from uuid_utils.compat import uuid7

from services.notification.dead_letters.repository import DeadLetterRepository
from services.notification.delivery.repository import DeliveryRepository
from services.notification.directory.repository import UserRepository
from services.notification.inbox.repository import InboxRepository
from services.notification.inbox.schemas import NotificationFilter
from services.notification.notifying.schemas import Channel, NotificationStatus, NotificationType
from services.notification.repository import Store
from tests.notification.services import migrated, store_of

USER = uuid7()
MINE = [uuid7() for _ in range(500)]
LIMIT = 51
EPOCH = datetime.fromtimestamp(0, UTC)


@pytest.fixture(scope="module")
async def full(mongodb_url: str) -> AsyncIterator[Store]:
    """A database of its own, with some thousand notifications, 500 of them USER's and 20 of these unread."""
    store = store_of(await migrated(mongodb_url.replace("/notification_", f"/indexes_{uuid7().hex[-6:]}_")))
    ids = [*MINE, *(uuid7() for _ in range(3000))]
    await store["notifications"].insert_many(
        [document(id_, USER if number < len(MINE) else uuid7(), number) for number, id_ in enumerate(ids)]
    )
    await store["notifications"].database.command("profile", 2)
    yield store
    await store["notifications"].database.client.drop_database(store["notifications"].database.name)
    store.close()


def document(id_: UUID, recipient: UUID, number: int) -> dict[str, Any]:
    return {
        "_id": id_,
        "eventId": uuid7(),
        "recipientId": recipient,
        "channel": "IN_APP",
        "type": "APPOINTMENT_CREATED" if number % 2 else "APPOINTMENT_UPDATED",
        "status": "PENDING" if number == 1 else "SENT",
        "appointmentId": uuid7(),
        "patientId": uuid7(),
        "doctorId": uuid7(),
        "message": "Your appointment is confirmed.",
        "createdAt": datetime.now(UTC),
        "sentAt": None,
        "readAt": None if number < 20 else datetime.now(UTC),
        "attempts": 1,
        **({"unread": True} if number < 20 else {}),
    }


async def profiled(store: Store) -> list[dict[str, Any]]:
    """What has run since this was last asked."""
    database = store["notifications"].database
    await database.command("profile", 0)
    found: list[dict[str, Any]] = await database["system.profile"].find().to_list(None)
    await database["system.profile"].drop()
    await database.command("profile", 2)
    return [one for one in found if "planSummary" in one and one["ns"].endswith(".notifications")]


async def test_an_event_a_recipient_and_a_channel_make_a_notification_unique(store: Store) -> None:
    indexes = await store["notifications"].index_information()
    unique = [index["key"] for index in indexes.values() if index.get("unique")]
    assert unique == [[("eventId", 1), ("recipientId", 1), ("channel", 1)]]
    fields = {"eventId": uuid7(), "recipientId": uuid7(), "channel": "IN_APP"}
    await store["notifications"].insert_one({"_id": uuid7(), **fields})
    with pytest.raises(DuplicateKeyError):
        await store["notifications"].insert_one({"_id": uuid7(), **fields})
    await store["notifications"].delete_one(fields)


@pytest.mark.parametrize(
    ("wanted", "before", "count", "keys"),
    [
        (NotificationFilter(), None, LIMIT, LIMIT),
        (NotificationFilter(), MINE[60], LIMIT, LIMIT),
        (NotificationFilter(type=NotificationType.APPOINTMENT_CREATED), None, LIMIT, 2 * LIMIT + 10),
        (NotificationFilter(status=NotificationStatus.PENDING), None, 1, len(MINE) + 1),
        (NotificationFilter(unread=True), None, 20, 21),
        (NotificationFilter(unread=True), MINE[10], 10, 11),
        (NotificationFilter(unread=False), None, LIMIT, LIMIT),
    ],
)
async def test_a_page_costs_what_it_shows(
    full: Store, wanted: NotificationFilter, before: UUID | None, count: int, keys: int
) -> None:
    await profiled(full)
    found = await InboxRepository(full, UserRepository(full)).list(USER, wanted, before=before, limit=LIMIT)
    assert len(found) == count
    (run,) = await profiled(full)
    assert run["planSummary"].startswith("IXSCAN")
    assert not run.get("hasSortStage")
    assert run["docsExamined"] == count
    assert run["keysExamined"] <= keys


async def test_statistics_are_one_aggregation_that_reads_no_document_but_the_oldest_undelivered(full: Store) -> None:
    await profiled(full)
    found = await InboxRepository(full, UserRepository(full)).statistics()
    assert (found.total, found.unread) == (3500, 20)
    runs = await profiled(full)
    assert sum(run["docsExamined"] for run in runs) <= 1
    assert len([run for run in runs if run["op"] == "command"]) == 1, runs


async def test_marking_as_read_looks_at_the_unread_alone(full: Store) -> None:
    await profiled(full)
    assert await InboxRepository(full, UserRepository(full)).mark_read(USER, None) == 20
    (run,) = await profiled(full)
    assert (run["docsExamined"], run["keysExamined"]) == (20, 20)


DUE, FAILED, LETTERS = 20, 300, 300


@pytest.fixture(scope="module")
async def busy(full: Store) -> Store:
    """With e-mails too: 20 of them due, 1000 put off, and 300 of one appointment failed; and with 300 poison events."""
    now = datetime.now(UTC)
    emails: list[dict[str, Any]] = []
    for number in range(DUE + 1000 + FAILED):
        state: dict[str, Any] = {"status": "PENDING", "nextAttemptAt": now + timedelta(seconds=60 + number)}
        if number < DUE:
            state["nextAttemptAt"] = EPOCH
        elif number < DUE + FAILED:
            state = {"status": "FAILED", "failedAt": now + timedelta(seconds=number), "appointmentId": MINE[0]}
        emails.append(document(uuid7(), uuid7(), 100) | {"channel": "EMAIL", "event": "{}", "attempts": 0} | state)
    await full["notifications"].insert_many(emails)
    await full["dead_letters"].insert_many(
        [
            {
                "_id": uuid7(),
                "stream": "s",
                "entryId": f"{number}-0",
                "reason": "failing",
                "error": "",
                "fields": {},
                "createdAt": now + timedelta(seconds=number),
                **({} if number % 2 else {"replayedAt": now}),
            }
            for number in range(2 * LETTERS)
        ]
    )
    return full


async def test_a_claim_looks_at_one_delivery_and_where_none_is_due_at_none(busy: Store) -> None:
    deliveries = DeliveryRepository(busy)
    assert (await deliveries.count_due(Channel.EMAIL))[0] == DUE
    for _ in range(DUE):
        await profiled(busy)
        assert await deliveries.claim(Channel.EMAIL, 60) is not None
        (run,) = await profiled(busy)
        assert (run["planSummary"], run["keysExamined"], run["docsExamined"]) == (
            "IXSCAN { channel: 1, nextAttemptAt: 1 }",
            1,
            1,
        )
    assert await deliveries.claim(Channel.EMAIL, 60) is None
    (run,) = await profiled(busy)
    assert (run["keysExamined"], run["docsExamined"]) == (0, 0)


async def test_what_an_admin_lists_costs_what_it_shows(busy: Store) -> None:
    deliveries, letters = DeliveryRepository(busy), DeadLetterRepository(busy)
    of_one = await deliveries.list_for(MINE[0], before=None, limit=LIMIT)
    failed = await deliveries.list_failed(before=None, limit=LIMIT)
    dead = await letters.list(before=None, limit=LIMIT)
    await profiled(busy)
    pages: list[Sequence[object]] = [
        await deliveries.list_for(MINE[0], before=of_one[-1].id, limit=LIMIT),
        await deliveries.list_failed(before=(failed[-1].failed_at or EPOCH, failed[-1].id), limit=LIMIT),
        await letters.list(before=(dead[-1].died_at, dead[-1].id), limit=LIMIT),
    ]
    assert [len(page) for page in pages] == [LIMIT] * 3
    database = busy["notifications"].database
    await database.command("profile", 0)
    runs = [run async for run in database["system.profile"].find({"op": "query"})]
    assert len(runs) == 3
    for run in runs:
        assert run["planSummary"].startswith("IXSCAN")
        assert not run.get("hasSortStage")
        assert run["docsExamined"] <= LIMIT + 1
        assert run["keysExamined"] <= LIMIT + 1
