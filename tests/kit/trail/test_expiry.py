"""Old entries leave the trail as a file, and the chain still proves the rest."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.kit.trail.expiry import expire
from services.kit.trail.seals import StoredChain
from tests.kit.trail.trails import Trail

LONG_AGO = datetime(2020, 1, 15, 12, tzinfo=UTC)
CUTOFF = datetime(2020, 2, 1, tzinfo=UTC)


async def write_at(trail: Trail, count: int, at: datetime) -> None:
    """Write and seal entries, and date them back."""
    await trail.write(count)
    await trail.owner.execute("UPDATE audit_log SET at = $1 WHERE at > now() - interval '1 hour'", at)
    await trail.sealer.seal()
    await trail.owner.execute("UPDATE audit_seals SET sealed_at = $1 WHERE sealed_at > now() - interval '1 hour'", at)


async def expired(trail: Trail, folder: Path, cutoff: datetime = CUTOFF) -> list[dict[str, Any]]:
    """Expire entries, and return the lines of the exported file."""
    verdict, path = await expire(StoredChain(trail.database), cutoff, folder, "audit-test")
    assert verdict.broken is None
    return [] if path is None else [json.loads(line) for line in path.read_text().splitlines()]


def files(folder: Path) -> dict[str, int]:
    """Return the permissions of the files in a folder by their names."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def remaining(trail: Trail) -> tuple[list[int], list[int]]:
    """Return the numbers of the entries and the positions of the seals that exist."""
    entries = await trail.owner.fetch("SELECT seq FROM audit_log ORDER BY seq")
    seals = await trail.owner.fetch("SELECT position FROM audit_seals ORDER BY position")
    return [row["seq"] for row in entries], [row["position"] for row in seals]


async def test_old_entries_are_exported_and_removed_and_the_rest_is_still_verified(
    trail: Trail, tmp_path: Path
) -> None:
    await write_at(trail, 3, LONG_AGO)
    await write_at(trail, 2, CUTOFF)
    head = await trail.head()
    start, *links, end = await expired(trail, tmp_path)
    assert files(tmp_path) == {"audit-test-1-3.jsonl": 0o600}
    assert (start, [link["position"] for link in links]) == ({"start": f"0:{bytes(32).hex()}"}, [1, 2, 3])
    assert end == {"head": f"3:{links[-1]['hash']}"}
    assert await remaining(trail) == ([4, 5, 6], [4, 5, 6])
    (announced,) = await trail.owner.fetch("SELECT * FROM audit_log WHERE action = 'audit.expired'")
    assert (announced["request_id"], announced["target_type"]) == (end["head"], "audit log")
    assert await trail.defect() is None
    assert await trail.defect(head) is None
    await trail.write(1)
    await trail.sealer.seal()
    verdict = await trail.verify()
    assert (verdict.head.position, verdict.unsealed, verdict.broken) == (7, 0, None)


async def test_an_exported_file_can_be_verified_by_itself(trail: Trail, tmp_path: Path) -> None:
    await write_at(trail, 3, LONG_AGO)
    await write_at(trail, 1, CUTOFF)
    await expired(trail, tmp_path)
    lines = (tmp_path / "audit-test-1-3.jsonl").read_bytes().splitlines()
    start, *links, end = [msgspec.json.decode(line, type=dict[str, msgspec.Raw]) for line in lines]
    previous = bytes.fromhex(msgspec.json.decode(start["start"], type=str).partition(":")[2])
    for link in links:
        previous = hashlib.sha256(previous + bytes(link["entry"])).digest()
        assert msgspec.json.decode(link["hash"]) == previous.hex()
    assert msgspec.json.decode(end["head"]) == f"3:{previous.hex()}"


async def test_the_next_file_begins_where_the_last_one_ended(trail: Trail, tmp_path: Path) -> None:
    await write_at(trail, 2, LONG_AGO)
    await write_at(trail, 2, CUTOFF)
    first = await expired(trail, tmp_path)
    second = await expired(trail, tmp_path, CUTOFF + timedelta(days=31))
    assert second[0]["start"] == first[-1]["head"]
    assert [link["position"] for link in second[1:-1]] == [3, 4]
    assert await expired(trail, tmp_path, CUTOFF + timedelta(days=31)) == []
    assert await trail.defect() is None


async def test_the_last_link_stays_so_that_the_next_one_can_be_sealed_after_it(trail: Trail, tmp_path: Path) -> None:
    assert await expired(trail, tmp_path) == []
    await write_at(trail, 1, LONG_AGO)
    assert await expired(trail, tmp_path) == []
    await write_at(trail, 1, LONG_AGO)
    assert len(await expired(trail, tmp_path)) == 3
    assert await trail.defect() is None


async def test_nothing_is_removed_from_a_chain_with_a_defect(trail: Trail, tmp_path: Path) -> None:
    await write_at(trail, 3, LONG_AGO)
    await write_at(trail, 1, CUTOFF)
    await trail.owner.execute("UPDATE audit_log SET address = '192.0.2.1' WHERE seq = 4")
    verdict, path = await expire(StoredChain(trail.database), CUTOFF, tmp_path, "audit-test")
    assert (verdict.broken, path) == ("link 4: entry 4 or its seal was changed", None)
    assert files(tmp_path) == {}
    assert await remaining(trail) == ([1, 2, 3, 4], [1, 2, 3, 4])


async def test_a_beginning_that_is_removed_without_an_entry_is_found(trail: Trail) -> None:
    await write_at(trail, 3, LONG_AGO)
    await write_at(trail, 1, CUTOFF)
    await trail.owner.execute(
        "INSERT INTO audit_expiries (position, hash) SELECT position, hash FROM audit_seals LIMIT 2"
    )
    assert await trail.defect() == "link 3: no entry says that those before it have expired"
    await trail.owner.execute("DELETE FROM audit_log WHERE seq <= 2")
    await trail.owner.execute("DELETE FROM audit_seals WHERE position <= 2")
    assert await trail.defect() == "link 3: no entry says that those before it have expired"


async def test_a_head_from_before_the_chains_start_is_refused(trail: Trail, tmp_path: Path) -> None:
    await write_at(trail, 1, LONG_AGO)
    head = await trail.head()
    await write_at(trail, 2, LONG_AGO)
    await write_at(trail, 1, CUTOFF)
    last_removed = (await expired(trail, tmp_path))[-1]["head"]
    assert await trail.defect(head) == "link 1: the known head has expired, take one after 3"
    assert await trail.defect(last_removed) is None
    assert await trail.defect(f"3:{bytes(32).hex()}") is not None


async def test_an_interrupted_removal_is_completed_by_the_next_run(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_at(trail, 3, LONG_AGO)
    await write_at(trail, 1, CUTOFF)
    chain = StoredChain(trail.database)
    remove = chain.remove

    async def move_the_start_and_stop(through: Any) -> None:
        if through.position:
            await trail.owner.execute("INSERT INTO audit_expiries (position, hash) VALUES ($1, $2)", *through)
            raise KeyboardInterrupt
        await remove(through)

    monkeypatch.setattr(chain, "remove", move_the_start_and_stop)
    with pytest.raises(KeyboardInterrupt):
        await expire(chain, CUTOFF, tmp_path, "audit-test")
    assert await trail.defect() is None
    assert len((await remaining(trail))[0]) == 5
    assert await expired(trail, tmp_path) == []
    assert await remaining(trail) == ([4, 5], [4, 5])
    assert await trail.defect() is None


async def test_a_verification_that_is_overtaken_by_a_removal_starts_again(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_at(trail, 3, LONG_AGO)
    await write_at(trail, 1, CUTOFF)
    links = StoredChain.links

    async def overtaken(self: StoredChain, start: Any) -> Any:
        monkeypatch.setattr(StoredChain, "links", links)
        await expired(trail, tmp_path)
        async for link in links(self, start):
            yield link

    monkeypatch.setattr(StoredChain, "links", overtaken)
    assert await trail.defect() is None
