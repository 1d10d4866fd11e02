"""The bench with small numbers: its data and its page are right, whatever the times."""

from typing import Any

import asyncpg
import pytest

from services.standalone.databases import DatabaseUrls
from tests.bench import pgbench
from tests.bench.crowds import HotSlot, Logins, Times
from tests.bench.data import PEOPLE, fill
from tests.bench.notifications import Notified
from tests.bench.report import Measured, page, targets
from tests.bench.throughput import Growth, Load, Replicas, Route, Side, Traced
from tests.support.databases import CloneDatabase

FILLED = 10 * PEOPLE


@pytest.fixture(scope="module")
async def filled(clone_database: CloneDatabase, worker_id: str) -> DatabaseUrls:
    urls = await clone_database("booking", f"booking_bench_{worker_id}")
    await fill(urls.migration, FILLED)
    return urls


async def test_a_filled_database_has_its_appointments_and_all_its_indexes(
    filled: DatabaseUrls, clone_database: CloneDatabase, worker_id: str
) -> None:
    empty = await clone_database("booking", f"booking_bench_empty_{worker_id}")
    indexes = "SELECT array_agg(indexname ORDER BY indexname) FROM pg_indexes WHERE tablename = 'appointments'"
    found, expected = [await _value(urls.migration, indexes) for urls in (filled, empty)]
    assert found == expected
    assert await _value(filled.migration, "SELECT count(*) FROM appointments WHERE status = 'COMPLETED'") == 9 * PEOPLE
    assert await _value(filled.migration, "SELECT count(*) FROM appointments WHERE status = 'CONFIRMED'") == PEOPLE


async def test_a_transaction_of_pgbench_writes_what_a_booking_writes(filled: DatabaseUrls) -> None:
    assert await pgbench.transactions_per_second(filled.application, pgbench.BOOK, 1, connections=2) > 0
    added = await _value(filled.migration, "SELECT count(*) FROM appointments WHERE status = 'PENDING'")
    assert added > 0
    for table in ("appointment_history", "outbox", "audit_log", "idempotency_keys"):
        assert await _value(filled.migration, f"SELECT count(*) FROM {table}") == added


async def test_pgbench_reads_what_the_services_read(filled: DatabaseUrls, auth_database: DatabaseUrls) -> None:
    assert await pgbench.transactions_per_second(filled.application, pgbench.LIST_APPOINTMENTS, 1) > 0
    for script in (pgbench.GET_A_DOCTOR, pgbench.LIST_DOCTORS):
        assert await pgbench.transactions_per_second(auth_database.application, script, 1) > 0


async def test_a_script_that_fails_raises_pgbenchs_error(filled: DatabaseUrls) -> None:
    with pytest.raises(pgbench.PgbenchFailed, match="nowhere"):
        await pgbench.transactions_per_second(filled.application, "SELECT 1 FROM nowhere;", 1)


async def _value(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def _measured(*, read: float, booking: float, traced: float, growth: float, hot_ms: float, live_ms: float) -> Measured:
    def side(per_second: float) -> Side:
        return Side(per_second, 1.0, 100.0)

    fast, slow = Times(1.0, 2.0, 3.0), Times(1.0, hot_ms, hot_ms)
    return Measured(
        load=Load(1, 1),
        routes=[
            Route("get a doctor", side(read * 1000), side(1000), 2000, read, read / 2),
            Route("book", side(booking * 1000), side(900), 1000, booking / 0.9, booking),
            Route("log in", side(40), side(50), None, 0.8, None),
        ],
        traced=[Traced("get a doctor", side(1000), side(950), 1.0), Traced("book", side(900), side(890), traced)],
        growth=[
            Growth("list 20 appointments", {10: side(1000), 1000: side(1000 / growth)}),
            Growth("book", {10: side(1000), 1000: side(10)}),
        ],
        replicas=[Replicas("book", side(10), side(20))],
        notified=[Notified(1, 40, fast, fast), Notified(2, 40, fast, fast)],
        hot_slot=HotSlot(128, 20, slow),
        logins=Logins(50, 40, 0, fast, Times(1.0, live_ms, live_ms), fast),
        answers=1000,
        unavailable=0,
        busy_before=0.1,
        minutes=5,
    )


def test_the_page_shows_which_targets_are_met() -> None:
    good = _measured(read=0.8, booking=0.4, traced=1.05, growth=1.3, hot_ms=249, live_ms=49)
    assert [target.met for target in targets(good)] == [True] * 6
    assert "**no**" not in page(good)
    bad = _measured(read=0.79, booking=0.39, traced=1.051, growth=1.31, hot_ms=251, live_ms=51)
    assert [target.met for target in targets(bad)] == [False] * 6
    assert page(bad).count("**no**") == 6


def test_every_row_of_a_table_has_as_many_cells_as_its_header() -> None:
    tables = page(_measured(read=1, booking=1, traced=1, growth=1, hot_ms=1, live_ms=1)).split("\n\n")
    widths = [{line.count("|") for line in block.splitlines()} for block in tables if block.startswith("|")]
    assert len(widths) == 7
    assert all(len(width) == 1 for width in widths)
