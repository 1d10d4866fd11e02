"""Fixtures of the consumer's tests."""

import pytest

from services.kit.streams import consumer as consumer_module
from tests.kit.streams.consuming import GROUP
from tests.support.store import STREAM, Store


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "_BLOCK_SECONDS", 0.2)
    monkeypatch.setattr(consumer_module, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(consumer_module, "_LAST_RETRY_SECONDS", 0.1)


@pytest.fixture
async def stream(store: Store) -> Store:
    """The store, with a stream that has the group."""
    await store.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    return store
