"""The writing side of a stream: entries under numbers that the writer gives, and how far the readers are."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from services.kit.streams.redis import LUA_FIELDS, redis_client

Entry = tuple[int, Mapping[str, str]]  # its number and its fields


class StreamWriter:
    """Append to a stream whose one writer at a time the caller ensures.

    `groups` are the stream's readers. Redis' errors pass through: the caller knows what may be repeated.
    """

    def __init__(self, redis_url: str, stream: str, groups: Sequence[str], *, seconds: float) -> None:
        self._redis = redis_client(redis_url, connect_seconds=seconds, answer_seconds=seconds)
        self._stream, self._groups = stream, list(groups)
        self._open = self._redis.register_script(_OPEN)
        self._append = self._redis.register_script(_APPEND)
        self._acknowledged = self._redis.register_script(_ACKNOWLEDGED)

    async def open(self) -> bytes:
        """Create the groups that are missing, and the stream with them, and return the last id."""
        last_id: bytes = await self._open(keys=[self._stream], args=self._groups)
        return last_id

    async def append(self, entries: Iterable[Entry], *, after: bytes) -> bool:
        """Append all entries, or none and return False when `after` is no longer the last id."""
        flat = [[f"{number}-0", *chain.from_iterable(fields.items())] for number, fields in entries]
        # One argument for all, because redis-py takes longer to write many than the rest of the relay takes.
        return bool(await self._append(keys=[self._stream], args=[after, msgspec.msgpack.encode(flat)]))

    async def acknowledged(self) -> int | None:
        """Return the number up to which every group has acknowledged every entry; None while a group is missing."""
        number: int | None = await self._acknowledged(keys=[self._stream], args=self._groups)
        return number

    async def trim(self, *, through: int) -> None:
        """Remove the entries up to and including number `through`."""
        await self._redis.xtrim(self._stream, minid=f"{through + 1}-0", approximate=False)

    async def close(self) -> None:
        await self._redis.aclose()


_STATE = f"""{LUA_FIELDS}
    local last_id, groups = nil, {{}}
    if redis.call('EXISTS', KEYS[1]) == 1 then
        last_id = fields(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id']
        for _, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
            groups[fields(reply)['name']] = fields(reply)
        end
    end
"""
_OPEN = f"""{_STATE}
    for _, name in ipairs(ARGV) do
        if not groups[name] then redis.call('XGROUP', 'CREATE', KEYS[1], name, '0', 'MKSTREAM') end
    end
    return last_id or '0-0'
"""
_APPEND = f"""{_STATE}
    if last_id ~= ARGV[1] then return 0 end
    for _, entry in ipairs(cmsgpack.unpack(ARGV[2])) do redis.call('XADD', KEYS[1], unpack(entry)) end
    return 1
"""
_ACKNOWLEDGED = f"""{_STATE}
    local lowest = math.huge
    for _, name in ipairs(ARGV) do
        local group = groups[name]
        if not group then return false end
        if group['pending'] > 0 then
            local id = redis.call('XPENDING', KEYS[1], name)[2]
            lowest = math.min(lowest, tonumber(string.match(id, '%d+')) - 1)
        else
            lowest = math.min(lowest, tonumber(string.match(group['last-delivered-id'], '%d+')))
        end
    end
    return lowest
"""
