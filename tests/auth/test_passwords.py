import asyncio

import pytest

from services.auth.users import passwords
from services.auth.users.passwords import Passwords
from services.kit.errors import Unavailable
from services.kit.metrics import create_registry


async def test_a_password_matches_its_hash_and_no_other() -> None:
    keeper = Passwords(create_registry())
    known = await keeper.hash("correct horse")
    assert await keeper.verify(known, "correct horse")
    assert not await keeper.verify(known, "correct horse ")
    assert not await keeper.verify(None, "correct horse")
    assert not await keeper.verify("not a hash", "correct horse")
    assert known != await keeper.hash("correct horse")


def test_a_login_waits_for_a_core_no_longer_than_clients_wait_for_an_answer() -> None:
    assert 0 < passwords._WAIT_SECONDS <= 5


async def test_a_hash_that_would_wait_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = create_registry()
    monkeypatch.setattr(passwords, "_WAIT_SECONDS", 0.02)
    keeper = Passwords(registry)
    crowd = [asyncio.create_task(keeper.hash("correct horse")) for _ in range(4 * passwords._AT_ONCE)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert registry.get_sample_value("password_hashes_waiting")
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    assert {type(answer) for answer in answers} == {str, Unavailable}
    assert registry.get_sample_value("password_hashes_waiting") == 0
    assert await keeper.hash("correct horse")
