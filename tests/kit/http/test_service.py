import pytest

from services.kit.http.service import Service
from services.kit.settings import ServiceSettings


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
