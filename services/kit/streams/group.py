"""One member of a group of a stream's readers."""

import os
import secrets
import socket
from typing import Any, NamedTuple

from services.kit.streams.redis import LUA_FIELDS, redis_client

Entry = tuple[str, dict[bytes, bytes]]  # its id and its fields

_CONNECTIONS = 8
_HOUR_MS = 3_600_000


class Backlog(NamedTuple):
    pending: int
    lag: int


class GroupMember:
    """Reads as a member of a group, under a name of its own. Redis' errors pass through."""

    def __init__(
        self, redis_url: str, stream: str, group: str, *, block_seconds: float, min_idle_seconds: float
    ) -> None:
        self._stream, self._group = stream, group
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._block_ms, self._min_idle_ms = int(block_seconds * 1000), int(min_idle_seconds * 1000)
        self._redis = redis_client(
            redis_url, connect_seconds=2, answer_seconds=block_seconds + 3, connections=_CONNECTIONS
        )

    async def close(self) -> None:
        await self._redis.aclose()

    async def read(self, count: int) -> list[Entry]:
        """Return up to `count` entries that no member has yet; wait for the first one at most `block_seconds`."""
        replies: Any = await self._redis.xreadgroup(
            self._group, self._name, {self._stream: ">"}, count=count, block=self._block_ms
        )
        return [(entry_id.decode(), fields) for _, entries in replies for entry_id, fields in entries]

    async def claim(self, count: int, cursor: bytes) -> tuple[bytes, list[Entry]]:
        """Take over entries that nobody has touched for `min_idle_seconds`, and return them with the next cursor.

        They were delivered to a member that is gone, or to this one in a reply that got lost. The cursor starts and
        ends at `b"0-0"`.
        """
        reply: Any = await self._redis.xautoclaim(
            self._stream, self._group, self._name, self._min_idle_ms, cursor, count=count
        )
        return reply[0], [(entry_id.decode(), fields) for entry_id, fields in reply[1]]

    async def keep(self, entry_id: str) -> None:
        """Renew the claim on an entry; otherwise XAUTOCLAIM would hand it to another member."""
        await self._redis.xclaim(self._stream, self._group, self._name, 0, [entry_id], justid=True)

    async def acknowledge(self, entry_id: str) -> None:
        await self._redis.xack(self._stream, self._group, entry_id)

    async def hand_over(self, count: int) -> None:
        """Let the other members claim this one's pending entries at once, up to `count`."""
        pending: Any = await self._redis.xpending_range(
            self._stream, self._group, "-", "+", count, consumername=self._name
        )
        if ids := [entry["message_id"] for entry in pending]:
            await self._redis.xclaim(self._stream, self._group, self._name, 0, ids, idle=_HOUR_MS, justid=True)

    async def tidy_up(self) -> Backlog | None:
        """Remove members that have been gone for an hour, and return the group's backlog; None while it is missing."""
        found: Any = await self._redis.eval(_TIDY_UP, 1, self._stream, self._group, str(_HOUR_MS))
        return None if found is None else Backlog(*found)


# In one step, because a member is deleted together with its pending entries. Redis may lose track of the lag; the
# distance of the ids is as good, because they are dense.
_TIDY_UP = f"""{LUA_FIELDS}
    local function number(id) return tonumber(string.match(id, '%d+')) end
    for _, reply in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
        local member = fields(reply)
        if member['pending'] == 0 and member['idle'] > tonumber(ARGV[2]) then
            redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], member['name'])
        end
    end
    for _, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
        local group = fields(reply)
        if group['name'] == ARGV[1] then
            local last = fields(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id']
            return {{group['pending'], group['lag'] or number(last) - number(group['last-delivered-id'])}}
        end
    end
    return false
"""
