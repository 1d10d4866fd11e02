"""Courtesy quotas: how often one account, or an address without one, may ask in a window of time, counted over all
replicas of a service.

A request is counted in its process and waits for nothing: once a second the counts of the processes meet in Redis. So
a quota may be overrun by what arrives in that second. While Redis is away each process goes by its own count, and what
it could not tell is not counted later.
"""

import asyncio
from collections.abc import Callable
from math import ceil
from time import time
from uuid import UUID

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from services.kit.errors import TooManyRequests
from services.kit.streams.redis import redis_client
from services.kit.tasks import pause

log = structlog.get_logger("quotas")

Asking = UUID | str  # an account, or an address

_SYNC_SECONDS = 1.0
_REDIS_SECONDS = 0.25
_BATCH = 500


class Quota:
    """`limit` for each who asks, in each window of `seconds`, which all replicas begin by the clock; 0 is no limit."""

    def __init__(self, name: str, limit: int, seconds: int, clock: Callable[[], float] = time) -> None:
        self.name, self.limit, self.seconds = name, limit, seconds
        self.policy = f'"{name}";q={limit};w={seconds}'
        self._clock = clock
        self.refused: Counter | None = None
        self._window = 0
        self._used: dict[Asking, int] = {}  # by everybody, as far as this process knows
        self.unshared: dict[Asking, int] = {}  # the part of it that the others do not know of

    def take(self, asking: Asking) -> str:
        """The `RateLimit` of the answer; raises `TooManyRequests`, which is not counted."""
        now = self._clock()
        self.turn(now)
        used = self._used.get(asking, 0)
        left_seconds = ceil((self._window + 1) * self.seconds - now)
        if used >= self.limit:
            if self.refused is not None:
                self.refused.inc()
            headers = {"RateLimit-Policy": self.policy, "RateLimit": f'"{self.name}";r=0;t={left_seconds}'}
            raise QuotaUsedUp(left_seconds, f"At most {self.limit} {self.name} in {self.seconds} s", headers)
        self._used[asking] = used + 1
        self.unshared[asking] = self.unshared.get(asking, 0) + 1
        return f'"{self.name}";r={self.limit - used - 1};t={left_seconds}'

    def turn(self, now: float) -> int:
        """The window of that time; a new one begins with nothing used."""
        window = int(now // self.seconds)
        if window != self._window:
            self._window = window
            self._used.clear()
            self.unshared.clear()
        return window

    def learn(self, window: int, asking: Asking, shared: int) -> None:
        """`shared` is what all processes have told Redis, of this one what it had told by then."""
        if window == self._window:
            self._used[asking] = shared + self.unshared.get(asking, 0)


class QuotaUsedUp(TooManyRequests):
    def __init__(self, retry_after_seconds: int, detail: str, headers: dict[str, str]) -> None:
        super().__init__(retry_after_seconds, detail)
        self.headers |= headers


class SharedQuotas:
    """The background task by which the replicas of a service know of each other's counts."""

    def __init__(self, service: str, redis_url: str, registry: CollectorRegistry, *quotas: Quota) -> None:
        self._service = service
        self._quotas = [quota for quota in quotas if quota.limit]
        self._redis = redis_client(redis_url, connect_seconds=_REDIS_SECONDS, answer_seconds=_REDIS_SECONDS)
        self._add = self._redis.register_script(_ADD)
        self._failures = Counter(
            "quota_syncs_failed_total", "Rounds in which the replicas' counts did not meet", registry=registry
        )
        refused = Counter("quota_refused_total", "Requests refused by a quota", ["quota"], registry=registry)
        for quota in quotas:
            quota.refused = refused.labels(quota.name)

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                for quota in self._quotas:
                    await self._share_or_count_alone(quota)
                await pause(stop, _SYNC_SECONDS)
        finally:
            await self._redis.aclose()

    async def _share_or_count_alone(self, quota: Quota) -> None:
        try:
            await self._share(quota)
        except (RedisError, OSError) as error:
            self._failures.inc()
            log.debug("quotas are not shared", error=type(error).__name__)

    async def _share(self, quota: Quota) -> None:
        window = quota.turn(time())
        key = f"{self._service}:quota:{quota.name}:{window}"
        # Whoever asks meanwhile is told in the next round: under load there is always somebody.
        everybody = list(quota.unshared)
        for first in range(0, len(everybody), _BATCH):
            if quota.turn(time()) != window:
                return
            # Told, from now on: should the answer not come, it is not told twice.
            batch = {asking: quota.unshared.pop(asking) for asking in everybody[first : first + _BATCH]}
            told = msgspec.msgpack.encode([(str(asking), count) for asking, count in batch.items()])
            shared: bytes = await self._add(keys=[key], args=[told, quota.seconds * 2])
            for asking, count in zip(batch, msgspec.msgpack.decode(shared, type=list[int]), strict=True):
                quota.learn(window, asking, count)


# One argument and one answer for a batch: redis-py takes as long for two commands as a service does for a request.
_ADD = """
    local shared = {}
    for i, told in ipairs(cmsgpack.unpack(ARGV[1])) do
        shared[i] = redis.call('HINCRBY', KEYS[1], told[1], told[2])
    end
    redis.call('EXPIRE', KEYS[1], ARGV[2])
    return cmsgpack.pack(shared)
"""
