"""E-mails as they are stored."""

from datetime import UTC, datetime
from typing import Any

from services.contracts.events import UserState
from services.notification.repository import Store
from tests.support.waiting import eventually

FROM = "Example Clinic <no-reply@clinic.example.com>"
EPOCH = datetime.fromtimestamp(0, UTC)


async def email_to(store: Store, user: UserState) -> dict[str, Any]:
    """The one e-mail to that person, as it is stored."""
    (found,) = await store["notifications"].find({"recipientId": user.id, "channel": "EMAIL"}).to_list(None)
    return dict(found)


async def email_becomes(store: Store, user: UserState, **expected: Any) -> dict[str, Any]:
    async def holds() -> bool:
        try:
            document = await email_to(store, user)
        except ValueError:
            return False
        return all(document.get(name) == value for name, value in expected.items())

    try:
        await eventually(holds)
    except TimeoutError:
        raise AssertionError(f"not {expected}: {await email_to(store, user)}") from None
    return await email_to(store, user)


async def time_passes(store: Store, *users: UserState) -> None:
    """Until what was put off for these people is due. The next attempt has failed when there is a reason again."""
    waiting = {"recipientId": {"$in": [user.id for user in users]}, "nextAttemptAt": {"$exists": True}}
    await store["notifications"].update_many(waiting, {"$set": {"nextAttemptAt": EPOCH}, "$unset": {"reason": ""}})
