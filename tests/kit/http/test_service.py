import asyncio

import pytest

from services.kit.errors import NotReady
from services.kit.http.service import Service
from services.kit.settings import ServiceSettings
from tests.support.waiting import without_hang


class Resource:
    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self.events = name, events

    async def open(self) -> None:
        if self.name == "broken":
            raise BrokenPipeError
        self.events.append(f"open {self.name}")

    async def close(self) -> None:
        self.events.append(f"close {self.name}")


def service_with(*opened: str) -> tuple[Service, list[str]]:
    service, events = Service("notes", ServiceSettings(redis_url="redis://127.0.0.1"), description=""), list[str]()
    for name in opened:
        service.opening(Resource(name, events))
    service.closing(Resource("client", events))
    service.mount([])
    return service, events


async def test_resources_are_closed_in_reverse_after_the_tasks() -> None:
    service, events = service_with("database", "cache")
    async with service._run():
        assert events == ["open database", "open cache"]
    assert service.tasks._stop.is_set()
    assert events[2:] == ["close client", "close cache", "close database"]


async def test_a_resource_that_does_not_open_ends_the_start_and_closes_the_others() -> None:
    service, events = service_with("database", "broken")
    with pytest.raises(BrokenPipeError):
        async with service._run():
            pass
    assert events == ["open database", "close broken", "close database"]


async def test_a_resource_that_does_not_close_leaves_none_open() -> None:
    service, events = service_with("database")

    async def broken() -> None:
        raise BrokenPipeError

    service.on_close(broken)
    with pytest.raises(BrokenPipeError):
        async with service._run():
            pass
    assert events == ["open database", "close client", "close database"]


async def test_work_begins_once_every_essential_check_has_passed() -> None:
    service = Service("notes", ServiceSettings(redis_url="redis://127.0.0.1"), description="")
    migrated, checked, begun = False, asyncio.Semaphore(0), asyncio.Event()

    async def check_schema() -> None:
        checked.release()
        if not migrated:
            raise NotReady

    async def work(stop: asyncio.Event) -> None:
        begun.set()
        await stop.wait()

    service.health.add("schema", check_schema, essential=True)
    service.when_ready("work", work)
    service.mount([])
    async with service._run(), without_hang():
        for _ in range(2):
            await checked.acquire()
            assert not begun.is_set()
        migrated = True
        await begun.wait()


async def test_work_that_never_began_does_not_delay_the_end() -> None:
    service = Service("notes", ServiceSettings(redis_url="redis://127.0.0.1"), description="")

    async def check_schema() -> None:
        raise NotReady

    async def work(_: asyncio.Event) -> None:
        raise AssertionError("the service was never ready")

    service.health.add("schema", check_schema, essential=True)
    service.when_ready("work", work)
    service.mount([])
    async with without_hang(), service._run():
        await asyncio.sleep(0)
    assert service.tasks.failing == set()
