import asyncio
from collections.abc import AsyncIterator

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient
from prometheus_client import CollectorRegistry

from services.kit.errors import NotReady, Unavailable
from services.kit.http.health import Health, HealthReport, RedisCheck
from tests.support.waiting import without_hang


class Store:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked = 0

    async def check(self) -> None:
        self.asked += 1
        if self.error:
            raise self.error


def health(store: Store, cache: Store) -> Health:
    health = Health("notes", "1", CollectorRegistry())
    health.add("store", store.check, essential=True)
    health.add("cache", cache.check)
    return health


async def fresh(health: Health) -> HealthReport:
    health._reported_at = float("-inf")
    return await health.report()


@pytest.mark.parametrize("error", [Unavailable(), OSError(), TimeoutError(), NotReady("the schema is too old")])
async def test_a_service_is_not_ready_until_its_essential_checks_have_passed_once(error: Exception) -> None:
    store = Store(error)
    one = health(store, Store())
    assert (await fresh(one)).status == "unavailable"
    assert not one.ready
    store.error = None
    assert (await fresh(one)).status == "ok"
    assert one.ready


async def test_a_later_outage_is_reported_in_the_body_and_leaves_the_service_ready() -> None:
    store = Store()
    one = health(store, Store())
    await fresh(one)
    store.error = Unavailable()
    report = await fresh(one)
    assert (report.status, report.checks["store"].status) == ("unavailable", "unavailable")
    assert one.ready


async def test_a_check_that_is_not_essential_only_degrades_the_service() -> None:
    one = health(Store(), Store(OSError()))
    assert (await fresh(one)).status == "degraded"
    assert one.ready


async def test_a_draining_service_is_not_ready() -> None:
    one = health(Store(), Store())
    await fresh(one)
    one.drain()
    assert not one.ready


async def test_a_check_that_hangs_counts_as_failed() -> None:
    store = Store()

    async def hang() -> None:
        await asyncio.sleep(600)

    store.check = hang  # type: ignore[method-assign]
    async with without_hang():
        assert (await fresh(health(store, Store()))).checks["store"].status == "unavailable"


async def test_whether_a_service_has_started_is_asked_of_the_essential_checks_alone_and_leaves_no_report() -> None:
    store, cache = Store(OSError()), Store()
    one = health(store, cache)
    assert not await one.has_started()
    store.error = None
    assert await one.has_started()
    assert cache.asked == 0
    assert (await one.report()).status == "ok"


async def test_concurrent_reports_share_one_round_of_checks() -> None:
    store = Store()
    one = health(store, Store())
    await asyncio.gather(*(one.report() for _ in range(20)))
    assert store.asked == 1


@pytest.fixture
async def client() -> AsyncIterator[AsyncTestClient[Litestar]]:
    store = Store(OSError())
    one = health(store, Store())
    app = Litestar(one.route_handlers(), openapi_config=None)
    app.state.store, app.state.health = store, one
    async with AsyncTestClient(app) as client:
        yield client


async def test_the_routes_report_readiness_by_their_status(client: AsyncTestClient[Litestar]) -> None:
    for path in ("/api/health", "/api/health/notes"):
        response = await client.get(path)
        assert response.status_code == 503
        statuses = {name: check["status"] for name, check in response.json()["checks"].items()}
        assert statuses == {"store": "unavailable", "cache": "ok"}
    assert (await client.get("/api/health/live")).json() == {"status": "ok"}
    client.app.state.store.error = None
    client.app.state.health._reported_at = float("-inf")
    response = await client.get("/api/health")
    assert response.status_code == 200
    assert response.json()["service"] == "notes"
    assert response.json()["checks"]["store"]["latencyMs"] >= 0
    client.app.state.health.drain()
    response = await client.get("/api/health")
    assert (response.status_code, response.json()["status"]) == (503, "unavailable")


async def test_the_redis_check_passes_or_raises_not_ready(redis_url: str) -> None:
    reachable, unreachable = RedisCheck(redis_url), RedisCheck("redis://127.0.0.1:1/0")
    await reachable()
    with pytest.raises(NotReady):
        await unreachable()
    await reachable.close()
    await unreachable.close()
