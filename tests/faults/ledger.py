"""What clients sent and received, in a file outside the system. Only what is on disk counts."""

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

Kind = Literal["book", "confirm", "cancel", "move"]
Outcome = Literal["ok", "refused", "unknown"]


class Intent(msgspec.Struct, tag=True, kw_only=True, frozen=True):
    """What a client is about to ask for.

    `uncontested`: no other operation asks for the same time, so that there is no reason to refuse this one.
    """

    operation: int
    at: float
    kind: Kind
    caller: UUID
    body: dict[str, Any]
    key: str | None = None
    appointment_id: str | None = None
    if_match: str | None = None
    uncontested: bool = True


class Reply(msgspec.Struct, tag=True, kw_only=True, frozen=True):
    """One answer. `status` is 0 when there was none, because of `error`.

    `read`: the answer to a GET that the client sent to find out whether its PATCH took effect.
    """

    operation: int
    sent_at: float
    at: float
    replica: str
    status: int
    read: bool = False
    error: str | None = None
    body: str = ""
    etag: str | None = None
    replayed: bool = False
    retry_after: str | None = None
    content_type: str = ""

    @property
    def seconds(self) -> float:
        return self.at - self.sent_at

    @property
    def acknowledges(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str | None:
        """The `code` of the problem document."""
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(self.body, type=_Problem).code
        return None


class Verdict(msgspec.Struct, tag=True, kw_only=True, frozen=True):
    """What the client takes to be the outcome."""

    operation: int
    at: float
    outcome: Outcome


class _Problem(msgspec.Struct):
    code: str | None = None


Entry = Intent | Reply | Verdict


class Operation(NamedTuple):
    """One client's intent, every answer to it, and the verdict, which is None while the client has not finished."""

    intent: Intent
    replies: list[Reply]
    verdict: Verdict | None

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome if self.verdict else "unknown"

    @property
    def acknowledgements(self) -> list[Reply]:
        return [reply for reply in self.replies if reply.acknowledges]


class Ledger:
    """An append-only file. Entries that are written at the same moment share an fsync."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._numbers = count()

    def next_number(self) -> int:
        """Return the number of a new operation."""
        return next(self._numbers)

    async def write(self, entry: Entry) -> None:
        """Append an entry, and return when it is on disk."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((msgspec.json.encode(entry), written))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await written

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._store, [line for line, _ in batch])
            for _, written in batch:
                if not written.done():
                    written.set_result(None)
        self._flushing = None

    def _store(self, lines: Iterable[bytes]) -> None:
        self._file.writelines(line + b"\n" for line in lines)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


_decoder = msgspec.json.Decoder(Entry)


def read(path: Path) -> list[Operation]:
    """Read a ledger's operations, in the order in which they began."""
    operations: dict[int, Operation] = {}
    with path.open("rb") as lines:
        for line in lines:
            entry = _decoder.decode(line)
            if isinstance(entry, Intent):
                operations[entry.operation] = Operation(entry, [], None)
            elif isinstance(entry, Reply):
                operations[entry.operation].replies.append(entry)
            else:
                operations[entry.operation] = operations[entry.operation]._replace(verdict=entry)
    return list(operations.values())
