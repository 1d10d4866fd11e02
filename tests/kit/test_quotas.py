import asyncio
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from services.kit.quotas import Quota, QuotaUsedUp, SharedQuotas
from tests.support.proxy import Proxy
from tests.support.store import Store
from tests.support.waiting import eventually


class Clock:
    def __init__(self) -> None:
        self.now = 1_200_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_quota_is_used_up_and_is_available_again_in_the_next_window() -> None:
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
    quota.take(uuid4())  # another account has a quota of its own
    clock.now += 42
    assert quota.take(account) == '"requests";r=1;t=60'


async def test_a_replica_learns_what_an_account_has_used_at_another(store: Store) -> None:
    account, stop = uuid4(), asyncio.Event()
    # One window for the whole test.
    first, second = (Quota("requests", 40, 10**9) for _ in range(2))
    sharing = [
        asyncio.create_task(SharedQuotas("notes", store.redis_url, CollectorRegistry(), quota).run(stop))
        for quota in (first, second)
    ]
    for _ in range(40):
        first.take(account)

    def is_refused_by_the_second() -> bool:
        try:
            second.take(account)
        except QuotaUsedUp:
            return True
        return False

    # Fewer requests than the quota has, so that only the first replica's can use it up.
    await eventually(is_refused_by_the_second, every_seconds=1)
    stop.set()
    await asyncio.gather(*sharing)


async def test_without_redis_each_process_counts_by_itself(redis_proxy: Proxy) -> None:
    redis_proxy.hold_replies()
    registry, stop, account = CollectorRegistry(), asyncio.Event(), uuid4()
    quota = Quota("requests", 5, 10**9)
    sharing = asyncio.create_task(SharedQuotas("notes", redis_proxy.url, registry, quota).run(stop))
    for _ in range(5):
        quota.take(account)
    await eventually(lambda: bool(registry.get_sample_value("quota_syncs_failed_total")))
    with pytest.raises(QuotaUsedUp):
        quota.take(account)
    assert registry.get_sample_value("quota_refused_total", {"quota": "requests"}) == 1
    stop.set()
    await sharing
    redis_proxy.heal()
