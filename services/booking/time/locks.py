"""Advisory locks, held until the transaction ends: they serialize bookings before there is any row to lock."""

from collections.abc import Mapping
from hashlib import blake2b
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array

from services.kit.postgres.database import Connection, Statement


def lock_key(*parts: str) -> int:
    """Return a signed 64-bit key; two names that happen to share one would only wait for each other."""
    return int.from_bytes(blake2b("\x00".join(parts).encode(), digest_size=8).digest(), signed=True)


def time_locks(*, doctor_id: UUID | None = None, patient_id: UUID | None = None) -> Mapping[str, int | None]:
    """Return the parameters of `LOCKS` that guard the time of a doctor, a patient or both, in the order of locking.

    Doctors come before patients on every path: another order on a single path is a deadlock.
    """
    return {
        "first_lock": None if doctor_id is None else lock_key("doctor", str(doctor_id)),
        "second_lock": None if patient_id is None else lock_key("patient", str(patient_id)),
    }


async def lock_time(connection: Connection, *, doctor_id: UUID | None = None, patient_id: UUID | None = None) -> None:
    """Take `time_locks`. Every transaction that changes who occupies time does so before it locks or reads a row.

    Read under the locks in a later statement: the snapshot of this one is from before the wait.
    """
    await LOCK.execute(connection, **time_locks(doctor_id=doctor_id, patient_id=patient_id))


# An array that PostgreSQL makes of two numbers: asyncpg takes longer to encode one. A null takes no lock.
LOCKS = array([sa.bindparam("first_lock", type_=sa.BigInteger), sa.bindparam("second_lock", type_=sa.BigInteger)])
# `unnest` returns its rows in the array's order, and each row takes its lock as it is returned.
LOCK = Statement(sa.select(sa.func.pg_advisory_xact_lock(sa.func.unnest(LOCKS).column_valued("key"))))
