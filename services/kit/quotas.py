"""Courtesy quotas: how many requests an account, or a network address, may make in a window of time.

A request is counted in its process and waits for nothing; once a second the replicas of a service add up their counts
in Redis. So a quota may be exceeded by the requests of that second. While Redis is down each process goes by its own
count, and what it could not share is not shared later.
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

Client = UUID | str  # an account, or a network address

_SYNC_SECONDS = 1.0
_REDIS_SECONDS = 0.25
_BATCH = 500


class Quota:
    """At most `limit` for each client in each window of `seconds`; 0 means no limit. Windows start by the clock."""

    def __init__(self, name: str, limit: int, seconds: int, clock: Callable[[], float] = time) -> None:
        self.name, self.limit, self.seconds = name, limit, seconds
        self.policy = f'"{name}";q={limit};w={seconds}'
        self._clock = clock
        self.refused: Counter | None = None
        self._window = 0
        self._used: dict[Client, int] = {}  # over all replicas, as far as this process knows
        self.unshared: dict[Client, int] = {}  # the part of it that is not in Redis yet

    def take(self, client: Client) -> str:
        """Count one and return the `RateLimit` header, or raise `QuotaUsedUp` and count nothing.

        Without a limit nothing is counted, and there is no header.
        """
        if not self.limit:
            return ""
        now = self._clock()
        self.turn(now)
        used = self._used.get(client, 0)
        left_seconds = ceil((self._window + 1) * self.seconds - now)
        if used >= self.limit:
            if self.refused is not None:
                self.refused.inc()
            headers = {"RateLimit-Policy": self.policy, "RateLimit": f'"{self.name}";r=0;t={left_seconds}'}
            raise QuotaUsedUp(left_seconds, f"At most {self.limit} {self.name} in {self.seconds} s", headers)
        self._used[client] = used + 1
        self.unshared[client] = self.unshared.get(client, 0) + 1
        return f'"{self.name}";r={self.limit - used - 1};t={left_seconds}'

    def turn(self, now: float) -> int:
        """Return the number of the window at `now`. When a new one begins, nothing of it is used."""
        window = int(now // self.seconds)
        if window != self._window:
            self._window = window
            self._used.clear()
            self.unshared.clear()
        return window

    def learn(self, window: int, client: Client, shared: int) -> None:
        """Adopt `shared`, the sum of the counts that all processes have added in Redis."""
        if window == self._window:
            self._used[client] = shared + self.unshared.get(client, 0)


class QuotaUsedUp(TooManyRequests):
    def __init__(self, retry_after_seconds: int, detail: str, headers: dict[str, str]) -> None:
        super().__init__(retry_after_seconds, detail)
        self.headers |= headers


class SharedQuotas:
    """The background task that shares the counts of a service's replicas through Redis."""

    def __init__(self, service: str, redis_url: str, registry: CollectorRegistry, *quotas: Quota) -> None:
        self._service = service
        self._quotas = [quota for quota in quotas if quota.limit]
        self._redis = redis_client(redis_url, connect_seconds=_REDIS_SECONDS, answer_seconds=_REDIS_SECONDS)
        self._add = self._redis.register_script(_ADD)
        self._failures = Counter(
            "quota_syncs_failed_total", "Rounds in which the replicas' counts were not shared", registry=registry
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
        # Clients that come meanwhile are shared in the next round: under load there always are some.
        clients = list(quota.unshared)
        for first in range(0, len(clients), _BATCH):
            if quota.turn(time()) != window:
                return
            # Counted as shared before Redis answers: without an answer nothing is added twice.
            batch = {client: quota.unshared.pop(client) for client in clients[first : first + _BATCH]}
            counts = msgspec.msgpack.encode([(str(client), count) for client, count in batch.items()])
            shared: bytes = await self._add(keys=[key], args=[counts, quota.seconds * 2])
            for client, count in zip(batch, msgspec.msgpack.decode(shared, type=list[int]), strict=True):
                quota.learn(window, client, count)


# One argument and one answer for a batch: redis-py takes as long for two commands as a service does for a request.
_ADD = """
    local shared = {}
    for i, counted in ipairs(cmsgpack.unpack(ARGV[1])) do
        shared[i] = redis.call('HINCRBY', KEYS[1], counted[1], counted[2])
    end
    redis.call('EXPIRE', KEYS[1], ARGV[2])
    return cmsgpack.pack(shared)
"""
