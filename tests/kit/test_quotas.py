import asyncio
from contextlib import suppress
from time import perf_counter
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from services.kit.quotas import Quota, QuotaUsedUp, SharedQuotas
from services.kit.tasks import pause
from tests.support.proxy import Proxy
from tests.support.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 1_200_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_quota_is_used_up_and_comes_back_with_the_next_window() -> None:
    clock, account = Clock(), uuid4()
    quota = Quota("requests", 2, 60, clock)
    clock.now += 18
    assert quota.policy == '"requests";q=2;w=60'
    assert [quota.take(account), quota.take(account)] == ['"requests";r=1;t=42', '"requests";r=0;t=42']
    with pytest.raises(QuotaUsedUp) as refusal:
        quota.take(account)
    assert refusal.value.headers == {
        "Retry-After": "42",
        "RateLimit-Policy": '"requests";q=2;w=60',
        "RateLimit": '"requests";r=0;t=42',
    }
    quota.take(uuid4())  # somebody else's is their own
    clock.now += 42
    assert quota.take(account) == '"requests";r=1;t=60'


async def until_refused(quota: Quota, account: object, stop: asyncio.Event) -> int:
    """Asks ten times a second; how often it was let through."""
    taken = 0
    with suppress(QuotaUsedUp):
        for _ in range(100):
            quota.take(account)  # type: ignore[arg-type]
            taken += 1
            await pause(stop, 0.1)
    return taken


async def test_replicas_know_of_each_other_within_about_a_second(store: Store) -> None:
    account, stop = uuid4(), asyncio.Event()
    # By a window so long that none begins meanwhile.
    replicas = [Quota("requests", 40, 10**9) for _ in range(2)]
    sharing = [
        asyncio.create_task(SharedQuotas("notes", store.redis_url, CollectorRegistry(), quota).run(stop))
        for quota in replicas
    ]
    taken = await asyncio.gather(*(until_refused(quota, account, stop) for quota in replicas))
    stop.set()
    await asyncio.gather(*sharing)
    assert 40 <= sum(taken) < 75  # 80 without sharing; a second of a busy machine is let through


async def test_without_redis_each_process_counts_and_nothing_waits(redis_proxy: Proxy) -> None:
    redis_proxy.hold_replies()
    registry, stop, account = CollectorRegistry(), asyncio.Event(), uuid4()
    quota = Quota("requests", 5, 10**9)
    sharing = asyncio.create_task(SharedQuotas("notes", redis_proxy.url, registry, quota).run(stop))
    started = perf_counter()
    for _ in range(5):
        quota.take(account)
    assert perf_counter() - started < 1
    async with asyncio.timeout(10):
        while not registry.get_sample_value("quota_syncs_failed_total"):
            await asyncio.sleep(0.05)
    with pytest.raises(QuotaUsedUp):
        quota.take(account)
    assert registry.get_sample_value("quota_refused_total", {"quota": "requests"}) == 1
    stop.set()
    await sharing
    redis_proxy.heal()
