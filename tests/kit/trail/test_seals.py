"""The chain over the audit trail: every change of the trail's owner is found, except that its end was cut off."""

from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from services.kit.postgres import horizon
from services.kit.trail.entry import AuditFilter, entry
from services.kit.trail.seals import Sealer
from tests.kit.trail.trails import Trail
from tests.support.waiting import eventually


async def test_an_untouched_chain_is_verified(trail: Trail) -> None:
    await trail.write(3)
    await trail.sealer.seal()
    await trail.write(2)
    before = await trail.verify()
    assert (before.broken, before.head.position, before.unsealed) == (None, 3, 2)
    await trail.sealer.seal()
    after = await trail.verify(str(before.head))
    assert (after.broken, after.head.position, after.unsealed) == (None, 5, 0)
    assert str(after.head).startswith("5:")
    assert after.head.hash != before.head.hash


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE audit_log SET actor_id = gen_random_uuid() WHERE seq = 3", "link 3: entry 3 or its seal was changed"),
        ("UPDATE audit_log SET at = at - interval '1 day' WHERE seq = 3", "link 3: entry 3 or its seal was changed"),
        ("UPDATE audit_log SET address = '192.0.2.1' WHERE seq = 5", "link 5: entry 5 or its seal was changed"),
        ("DELETE FROM audit_log WHERE seq = 2", "link 2: entry 2 is missing"),
        ("DELETE FROM audit_seals WHERE seq = 2", "link 2: its seal is missing"),
        ("UPDATE audit_seals SET hash = sha256('') WHERE position = 4", "link 4: entry 4 or its seal was changed"),
        (
            "DELETE FROM audit_log WHERE seq = 4; DELETE FROM audit_seals WHERE seq = 4;"
            " UPDATE audit_seals SET position = 4 WHERE position = 5",
            "link 4: entry 5 or its seal was changed",
        ),
    ],
)
async def test_tampering_is_found_at_its_link(trail: Trail, tampering: str, found: str) -> None:
    await trail.write(5)
    await trail.sealer.seal()
    assert await trail.defect() is None
    await trail.owner.execute(tampering)
    assert await trail.defect() == found


WRITE_MANY = """
    INSERT INTO audit_log (action, result, target_type)
    SELECT 'thing.changed', 'SUCCEEDED', 'thing' FROM generate_series(1, $1)
"""
_INSERTED = """
    INSERT INTO audit_log (seq, at, action, result, target_type) OVERRIDING SYSTEM VALUE
    VALUES (3, (SELECT at FROM audit_log WHERE seq = 2), 'thing.changed', 'SUCCEEDED', 'thing')
"""


@pytest.mark.parametrize("sealed_later", [False, True])
async def test_a_row_that_is_inserted_into_the_past_is_found(trail: Trail, sealed_later: bool) -> None:
    await trail.write(2)
    await trail.owner.execute("SELECT nextval('audit_log_seq_seq')")
    await trail.write(2)
    await trail.owner.execute("UPDATE audit_log SET at = at - interval '1 hour'")
    await trail.sealer.seal()
    assert await trail.defect() is None
    await trail.owner.execute(_INSERTED)
    if sealed_later:
        await trail.sealer.seal()
        assert await trail.defect() == "link 5: entry 3 was added to the past"
    else:
        assert await trail.defect() == "entry 3 was added to the past and has no seal"


async def test_a_missing_end_is_found_with_a_known_head(trail: Trail) -> None:
    await trail.write(4)
    await trail.sealer.seal()
    head = await trail.head()
    await trail.owner.execute("DELETE FROM audit_log WHERE seq > 2")
    await trail.owner.execute("DELETE FROM audit_seals WHERE position > 2")
    assert await trail.defect() is None  # the shorter chain itself has no defect
    assert await trail.defect(head) == "link 3: the chain ends before the known head at 4"
    await trail.write(3)
    await trail.sealer.seal()
    assert await trail.defect() is None
    assert await trail.defect(head) == "link 4: it is not the known head"


async def test_a_row_whose_transaction_commits_late_is_sealed_after_the_others(trail: Trail) -> None:
    slow = trail.owner.transaction()
    await slow.start()
    await trail.owner.execute(
        "INSERT INTO audit_log (action, result, target_type) VALUES ('thing.changed', 'SUCCEEDED', 'thing')"
    )
    await trail.write(2)
    await trail.sealer.seal()
    assert [row["seq"] for row in await trail.owner.fetch("SELECT seq FROM audit_seals ORDER BY position")] == [2, 3]
    await slow.commit()
    await trail.sealer.seal()
    assert [row["seq"] for row in await trail.owner.fetch("SELECT seq FROM audit_seals ORDER BY position")] == [2, 3, 1]
    assert await trail.defect() is None


async def test_a_row_whose_transaction_commits_after_ten_thousand_later_ones_is_sealed(trail: Trail) -> None:
    slow = trail.owner.transaction()
    await slow.start()
    await trail.owner.execute(WRITE_MANY, 1)
    async with trail.database.connection() as other:
        await other.execute(WRITE_MANY, 10_500)
    for _ in range(3):
        await trail.sealer.seal()
    await slow.commit()
    await trail.sealer.seal()
    assert await trail.owner.fetchval("SELECT position FROM audit_seals WHERE seq = 1") == 10_501
    verdict = await trail.verify()
    assert (verdict.head.position, verdict.unsealed, verdict.broken) == (10_501, 0, None)


async def test_a_row_whose_transaction_began_before_the_horizon_did_is_waited_for(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horizon, "_STATEMENT_SECONDS", 0.0)
    slow = trail.owner.transaction()
    await slow.start()
    await trail.owner.execute(WRITE_MANY, 1)
    for _ in range(10):
        await trail.write(1)
        await trail.sealer.seal()
    assert trail.sealer._through == 0
    await slow.commit()

    async def passed() -> bool:
        await trail.sealer.seal()
        return trail.sealer._through == 11

    await eventually(passed)
    assert await trail.owner.fetchval("SELECT position FROM audit_seals WHERE seq = 1") == 11


async def test_a_new_process_looks_for_late_rows_as_far_back_as_they_may_be(trail: Trail) -> None:
    await trail.write(3)
    await trail.sealer.seal()
    await trail.owner.execute("UPDATE audit_seals SET sealed_at = sealed_at - interval '1 hour' WHERE position <= 2")
    sealer = Sealer(trail.database, CollectorRegistry())
    await sealer.seal()
    assert sealer._through == 2


async def test_one_replica_seals_at_a_time(trail: Trail) -> None:
    await trail.write(2)
    await trail.owner.execute("SELECT pg_advisory_lock(7203412)")
    await trail.sealer.seal()
    assert await trail.owner.fetchval("SELECT count(*) FROM audit_seals") == 0
    await trail.owner.execute("SELECT pg_advisory_unlock(7203412)")
    await trail.sealer.seal()
    assert await trail.owner.fetchval("SELECT count(*) FROM audit_seals") == 2


async def test_more_than_a_batch_is_sealed_and_verified(trail: Trail) -> None:
    await trail.owner.execute(WRITE_MANY, 6_500)
    await trail.sealer.seal()
    verdict = await trail.verify()
    assert (verdict.head.position, verdict.unsealed, verdict.broken) == (6500, 0, None)


async def test_the_trail_is_read_by_filters(trail: Trail) -> None:
    actor, target = uuid4(), uuid4()
    await trail.write(2, target)
    await trail.trail.add(entry("thing.read", actor_id=actor, target_type="thing", target_id=target, code="forbidden"))
    await trail.write(1)
    of_target = await trail.trail.list(AuditFilter(target_id=target), limit=10, before=None)
    assert [(found.id, found.result) for found in of_target] == [(3, "REFUSED"), (2, "SUCCEEDED"), (1, "SUCCEEDED")]
    after_first = await trail.trail.list(AuditFilter(target_id=target), limit=1, before=3)
    assert [found.id for found in after_first] == [2]
    assert [found.id for found in await trail.trail.list(AuditFilter(actor_id=actor), limit=9, before=None)] == [3]
    named = AuditFilter(action="thing.read", from_=of_target[0].at)
    assert [found.code for found in await trail.trail.list(named, limit=9, before=None)] == ["forbidden"]
    assert not await trail.trail.list(AuditFilter(to=of_target[2].at), limit=9, before=None)
