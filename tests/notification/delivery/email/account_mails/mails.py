"""Mails about an account, as auth requests and notification stores them."""

from datetime import UTC, datetime
from typing import Any

from services.contracts.enums import MailKind
from services.contracts.events import MailRequested
from services.contracts.mails import Mail
from services.notification.repository import Store
from tests.notification.delivery.email.emails import EPOCH
from tests.support.waiting import eventually

BASE = "https://app.example.com/account/"
RESET, VERIFY = MailKind.PASSWORD_RESET, MailKind.VERIFY_EMAIL
NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)


def requested(mail: Mail) -> MailRequested:
    return MailRequested(mail_id=mail.id, kind=mail.kind)


async def becomes(store: Store, event_id: Any, **expected: Any) -> dict[str, Any]:
    """The one document of that event, as it is stored, when it is as expected."""
    found: list[dict[str, Any]] = []

    async def holds() -> bool:
        found[:] = await store["notifications"].find({"eventId": event_id}).to_list(None)
        return len(found) == 1 and all(found[0].get(name) == value for name, value in expected.items())

    try:
        await eventually(holds)
    except TimeoutError:
        raise AssertionError(f"not {expected}: {found}") from None
    return found[0]


async def time_passes(store: Store, event_id: Any) -> None:
    waiting = {"eventId": event_id, "nextAttemptAt": {"$exists": True}}
    await store["notifications"].update_one(waiting, {"$set": {"nextAttemptAt": EPOCH}, "$unset": {"reason": ""}})


def assert_silent(text: str, mail: Mail) -> None:
    """Neither the secret nor whom it is for."""
    for secret in (mail.token, mail.token[:20], mail.email, mail.full_name):
        assert secret not in text
