"""Advisory locks of a transaction: they serialise bookings before there is any row to lock."""

from hashlib import blake2b
from uuid import UUID

import sqlalchemy as sa

from services.kit.postgres.database import Connection, Statement


def _key(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.BigInteger)


# One statement for both: PostgreSQL evaluates a select list from left to right, and nothing is read beside the locks.
LOCK_BOTH = Statement(
    sa.select(
        sa.func.pg_advisory_xact_lock(_key("doctor")).label("doctor"),
        sa.func.pg_advisory_xact_lock(_key("patient")).label("patient"),
    )
)
_LOCK = Statement(sa.select(sa.func.pg_advisory_xact_lock(_key("person"))))
TRY_LOCK = Statement(sa.select(sa.func.pg_try_advisory_xact_lock(_key("request"))))


def lock_key(*parts: str) -> int:
    """64 bits: that two things share a key is improbable, and would only make them wait for each other."""
    return int.from_bytes(blake2b("\x00".join(parts).encode(), digest_size=8).digest(), signed=True)


async def lock_time(connection: Connection, *, doctor_id: UUID, patient_id: UUID) -> None:
    """For every transaction that changes who may occupy time, before it locks or reads a row.

    Doctors before patients, everywhere: another order on only some of the paths is a deadlock. What it is to see must
    be read by a later statement, as this one's snapshot is from before the wait.
    """
    await LOCK_BOTH.execute(
        connection, doctor=lock_key("doctor", str(doctor_id)), patient=lock_key("patient", str(patient_id))
    )


async def lock_doctor(connection: Connection, doctor_id: UUID) -> None:
    await _LOCK.execute(connection, person=lock_key("doctor", str(doctor_id)))


async def lock_patient(connection: Connection, patient_id: UUID) -> None:
    await _LOCK.execute(connection, person=lock_key("patient", str(patient_id)))


async def try_lock_request(connection: Connection, *request: str) -> bool:
    """Whether nobody else works on this request; never waits."""
    locked: bool = await TRY_LOCK.fetchval(connection, request=lock_key("request", *request))
    return locked
