"""The verification of an audit trail's chain, whichever database holds it."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from services.kit.trail.chain import START, next_hash


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


class Verdict(NamedTuple):
    """`position` and `hash` are those of the last good seal; `broken` describes the first bad link."""

    position: int
    hash: bytes
    unsealed: int
    broken: str | None

    @property
    def head(self) -> str:
        """The end of the chain, to be kept elsewhere: a chain whose end was cut off is whole without it."""
        return f"{self.position}:{self.hash.hex()}"


async def verify(
    links: AsyncIterator[Link], unsealed_entries: AsyncIterator[Unsealed], known_head: str | None
) -> Verdict:
    """Compute the chain of `links`, by position, anew and compare it, also with an earlier `head` as position:hash.

    Entries without a seal are read afterwards.
    """
    known_position, _, known_hash = (known_head or "0:").partition(":")
    position, previous, unsealed = 0, START, 0

    def broken(what: str) -> Verdict:
        return Verdict(position, previous, 0, what)

    async for link in links:
        here = f"link {position + 1}"
        if link.position != position + 1:
            return broken(f"{here}: its seal is missing")
        if link.entry is None:
            return broken(f"{here}: entry {link.entry_id} is missing")
        if next_hash(previous, link.entry) != link.hash:
            return broken(f"{here}: entry {link.entry_id} or its seal was changed")
        if link.is_late:
            return broken(f"{here}: entry {link.entry_id} was added to the past")
        position, previous = link.position, link.hash
        if position == int(known_position) and previous.hex() != known_hash:
            return broken(f"{here}: it is not the known head")
    if position < int(known_position):
        return broken(f"link {position + 1}: the chain ends before the known head at {known_position}")
    async for entry in unsealed_entries:
        unsealed += 1
        if entry.is_late:
            return broken(f"entry {entry.entry_id} was added to the past and has no seal")
    return Verdict(position, previous, unsealed, None)
