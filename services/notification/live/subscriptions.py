"""The streams that are open in this process, and the ids that each has still to read."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Set
from math import inf
from uuid import UUID

from uuid_utils.compat import uuid7

# A stream whose client keeps up is never this far behind. Beyond it, the stream queries MongoDB instead of keeping ids.
_ANNOUNCED = 200


class Subscription:
    """`look_at` is the event loop's time of the next query for missed notifications."""

    def __init__(self, user_id: UUID) -> None:
        self.id, self.user_id = uuid7(), user_id
        self.announced: set[UUID] = set()
        self.look_at = inf
        self.changed = asyncio.Event()

    def announce(self, notification_id: UUID) -> None:
        if len(self.announced) < _ANNOUNCED:
            self.announced.add(notification_id)
            self.changed.set()
        else:
            self.look_again()

    def look_again(self) -> None:
        self.look_at = -inf
        self.changed.set()


class Subscriptions:
    def __init__(self) -> None:
        self._by_user: defaultdict[UUID, set[Subscription]] = defaultdict(set)

    def __iter__(self) -> Iterator[Subscription]:
        return (one for of_user in self._by_user.values() for one in of_user)

    def __len__(self) -> int:
        return sum(map(len, self._by_user.values()))

    def of(self, user_id: UUID) -> Set[Subscription]:
        return self._by_user.get(user_id, frozenset())

    def add(self, subscription: Subscription) -> None:
        self._by_user[subscription.user_id].add(subscription)

    def remove(self, subscription: Subscription) -> None:
        of_user = self._by_user[subscription.user_id]
        of_user.discard(subscription)
        if not of_user:
            del self._by_user[subscription.user_id]

    def announce(self, user_id: UUID, notification_id: UUID) -> None:
        for one in self.of(user_id):
            one.announce(notification_id)

    def look_again(self) -> None:
        for one in self:
            one.look_again()
