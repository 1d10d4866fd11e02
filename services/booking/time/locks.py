"""Advisory locks, held until the transaction ends: they serialize bookings before there is any row to lock."""

from collections.abc import Sequence
from hashlib import blake2b
from uuid import UUID

import sqlalchemy as sa

from services.kit.postgres.database import Connection, Statement


def lock_key(*parts: str) -> int:
    """Return a signed 64-bit key; two names that happen to share one would only wait for each other."""
    return int.from_bytes(blake2b("\x00".join(parts).encode(), digest_size=8).digest(), signed=True)


def time_locks(*, doctor_id: UUID | None = None, patient_id: UUID | None = None) -> Sequence[int]:
    """Return the keys that guard the time of a doctor, a patient or both, in the one order that never deadlocks.

    Doctors come before patients on every path: another order on a single path is a deadlock.
    """
    people = (("doctor", doctor_id), ("patient", patient_id))
    return [lock_key(kind, str(id)) for kind, id in people if id is not None]


async def lock_time(connection: Connection, *, doctor_id: UUID | None = None, patient_id: UUID | None = None) -> None:
    """Take `time_locks`. Every transaction that changes who occupies time does so before it locks or reads a row.

    Read under the locks in a later statement: the snapshot of this one is from before the wait.
    """
    await LOCK.execute(connection, keys=time_locks(doctor_id=doctor_id, patient_id=patient_id))


# `unnest` returns its rows in the array's order, and each row takes its lock as it is returned.
_keys = sa.func.unnest(sa.bindparam("keys", type_=sa.ARRAY(sa.BigInteger))).column_valued("key")
LOCK = Statement(sa.select(sa.func.pg_advisory_xact_lock(_keys)))
