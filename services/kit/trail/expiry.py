"""The retention of an audit trail: entries that are too old are exported with their seals, and then removed."""

import os
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from services.kit.trail.chain import Head, sealed_bytes
from services.kit.trail.entry import EXPIRED, entry
from services.kit.trail.verify import Link, StoredChain, Verdict, follow


class ExpirableChain(StoredChain, Protocol):
    async def announce(self, expired: dict[str, Any]) -> None:
        """Insert an entry, and return when it is sealed."""

    async def remove(self, through: Head) -> None:
        """Let the chain start after `through`, and delete the entries and seals up to it. May be repeated."""


async def expire(chain: ExpirableChain, cutoff: datetime, folder: Path, name: str) -> tuple[Verdict, Path | None]:
    """Export and remove the links before the first entry of `cutoff` or later; return the file, if there are any.

    The last link always stays. A broken chain is left as it is, for what it can still prove.
    """
    start = await chain.start()
    await chain.remove(start)  # what an interrupted run has left
    export = _Export(folder / f"{name}.part", start, cutoff)
    try:
        verdict = await follow(chain, start, copy=export.add)
        if verdict.broken is not None or export.head == start:
            return verdict, None
        path = export.finish(folder / f"{name}-{start.position + 1}-{export.head.position}.jsonl")
    finally:
        export.discard()
    expired = entry(EXPIRED, target_type="audit log", target_id=None)
    await chain.announce(expired | {"request_id": str(export.head)})
    await chain.remove(export.head)
    return verdict, path


class _Export:
    """A file with a JSON line for the chain's start, one for each link, and one for its head.

    Each link has the entry's sealed bytes: its hash is the SHA-256 of the hash before it and of them.
    """

    def __init__(self, path: Path, start: Head, cutoff: datetime) -> None:
        self.head = start
        self._path, self._cutoff = path, cutoff
        self._held: Link | None = None
        self._ended = False
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._write(start=str(start))

    def add(self, link: Link) -> None:
        """Write the link before, now that it is not the last one."""
        if self._ended:
            return
        if self._held is not None:
            self.head = Head(self._held.position, self._held.hash)
            sealed = msgspec.Raw(sealed_bytes(self._held.entry))
            self._write(position=self.head.position, hash=self.head.hash.hex(), entry=sealed)
        self._held, self._ended = link, link.entry["at"] >= self._cutoff

    def finish(self, path: Path) -> Path:
        """Make the file durable under its final name."""
        self._write(head=str(self.head))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return path

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _write(self, **line: Any) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
