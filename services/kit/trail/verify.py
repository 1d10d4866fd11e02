"""The verification of an audit trail's chain, whichever database holds it."""

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, Protocol

from services.kit.trail.chain import BEGINNING, Head, next_hash
from services.kit.trail.entry import EXPIRED


class Link(NamedTuple):
    """A seal with its entry, which is None if it was removed.

    `is_late` says that the entry claims a time so long before the seals that precede it that its transaction cannot
    have ended after them.
    """

    position: int
    hash: bytes
    entry_id: Any
    entry: Any
    is_late: bool


class Unsealed(NamedTuple):
    entry_id: Any
    is_late: bool


class StoredChain(Protocol):
    async def start(self) -> Head:
        """Return the last link that was removed when it expired, or `BEGINNING`."""

    def links(self, start: Head) -> AsyncIterator[Link]:
        """Yield every link after `start`, by position."""

    def unsealed(self) -> AsyncIterator[Unsealed]:
        """Yield the entries without a seal, after the links were read."""


class Verdict(NamedTuple):
    """`head` is the last good link; `broken` describes the first bad one.

    Keep the head elsewhere: without it a chain whose end was cut off looks intact.
    """

    head: Head
    unsealed: int
    broken: str | None


async def verify(chain: StoredChain, known_head: str | None = None) -> Verdict:
    """Compute the chain anew and compare it with the stored one, and with an earlier head as position:hash."""
    while True:
        start = await chain.start()
        verdict = await follow(chain, start, known_head)
        if verdict.broken is None or await chain.start() == start:  # else its first links were removed meanwhile
            return verdict


async def follow(
    chain: StoredChain,
    start: Head,
    known_head: str | None = None,
    copy: Callable[[Link], None] = lambda _: None,
) -> Verdict:
    """Verify the chain from `start`, and pass each good link to `copy`."""
    known_position, _, known_hash = (known_head or str(BEGINNING)).partition(":")
    head, unsealed, is_announced = start, 0, start == BEGINNING

    def broken(what: str) -> Verdict:
        return Verdict(head, 0, what)

    def contradicts_known_head() -> bool:
        return head.position == int(known_position) and head.hash.hex() != known_hash

    if 0 < int(known_position) < start.position:
        return broken(f"link {known_position}: the known head has expired, take one after {start.position}")
    if contradicts_known_head():
        return broken(f"link {start.position}: it is not the known head")
    async for link in chain.links(start):
        here = f"link {head.position + 1}"
        if link.position != head.position + 1:
            return broken(f"{here}: its seal is missing")
        if link.entry is None:
            return broken(f"{here}: entry {link.entry_id} is missing")
        if next_hash(head.hash, link.entry) != link.hash:
            return broken(f"{here}: entry {link.entry_id} or its seal was changed")
        if link.is_late:
            return broken(f"{here}: entry {link.entry_id} was added to the past")
        head = Head(link.position, link.hash)
        if contradicts_known_head():
            return broken(f"{here}: it is not the known head")
        is_announced |= link.entry["action"] == EXPIRED and link.entry["request_id"] == str(start)
        copy(link)
    if head.position < int(known_position):
        return broken(f"link {head.position + 1}: the chain ends before the known head at {known_position}")
    if not is_announced:
        return broken(f"link {start.position + 1}: no entry says that those before it have expired")
    async for entry in chain.unsealed():
        unsealed += 1
        if entry.is_late:
            return broken(f"entry {entry.entry_id} was added to the past and has no seal")
    return Verdict(head, unsealed, None)
