"""The statements of a transaction that adds or removes an exception."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from services.booking.availability.schedules import WallSpan
from services.booking.models.messages import audit_log
from services.booking.models.schedules import schedule_exception_history as history
from services.booking.models.schedules import schedule_exceptions as exceptions
from services.booking.schedule_exceptions.schemas import ScheduleException
from services.booking.time.obstacles import param
from services.kit.auth import Principal
from services.kit.postgres.database import Connection, Statement
from services.kit.trail import tables as trail
from services.kit.trail.entry import entry


class Stored(NamedTuple):
    kind: str
    span: WallSpan


async def find(connection: Connection, doctor_id: UUID, id: UUID) -> Stored | None:
    row = await FIND.fetchrow(connection, doctor_id=doctor_id, id=id)
    return None if row is None else Stored(row["kind"], WallSpan(row["starts_at"], row["ends_at"]))


async def add(
    connection: Connection, exception: ScheduleException, span: WallSpan, revision: int, principal: Principal
) -> None:
    """Write an exception under the doctor's lock, with a history row and an audit entry."""
    await _ADD.execute(
        connection,
        id=exception.id,
        kind=exception.kind,
        starts_at=span.start,
        ends_at=span.end,
        reason=exception.reason,
        **_change("added", exception.doctor_id, revision, exception.created_at, principal),
    )


async def remove(
    connection: Connection, doctor_id: UUID, id: UUID, revision: int, now: datetime, principal: Principal
) -> None:
    """Delete an exception under the doctor's lock, with a history row and an audit entry."""
    await _REMOVE.execute(connection, id=id, **_change("removed", doctor_id, revision, now, principal))


async def forget_reasons(connection: Connection, doctor_id: UUID, limit: int) -> int:
    """Remove the reasons of an erased doctor's exceptions; return of how many of at most `limit`."""
    return len(await FORGET_REASONS.fetch(connection, doctor_id=doctor_id, limit=limit))


def _change(action: str, doctor_id: UUID, revision: int, changed_at: datetime, principal: Principal) -> dict[str, Any]:
    audit = entry(f"availability.exception_{action}", actor=principal, target_type="availability", target_id=doctor_id)
    return {
        "doctor_id": doctor_id,
        "revision": revision,
        "changed_at": changed_at,
        "actor_id": principal.id,
        "actor_role": principal.role,
        **trail.entry_values(audit),
    }


_ID, _DOCTOR_ID = param("id", exceptions.c.id), param("doctor_id", exceptions.c.doctor_id)
_ONE = sa.and_(exceptions.c.doctor_id == _DOCTOR_ID, exceptions.c.id == _ID)
_PLACE = ("doctor_id", "id", "kind", "starts_at", "ends_at")
FIND = Statement(sa.select(*(exceptions.c[name] for name in _PLACE)).where(_ONE))


def _with_history_and_audit(changed: sa.CTE, action: str) -> Statement:
    author = {name: param(name, history.c[name]) for name in ("revision", "changed_at", "actor_id", "actor_role")}
    values = {
        **{"exception_id" if name == "id" else name: changed.c[name] for name in _PLACE},
        **author,
        "action": sa.literal_column(f"'{action}'"),
    }
    kept = sa.insert(history).from_select(list(values), sa.select(*values.values()).select_from(changed))
    audited = trail.insert_entry(audit_log, for_each=changed)
    return Statement(sa.select(changed.c.id).add_cte(kept.cte("kept"), audited.cte("audited")))


_returned = [exceptions.c[name] for name in _PLACE]
_values = {name: param(name, exceptions.c[name]) for name in (*_PLACE, "reason")}
_added = (
    sa.insert(exceptions)
    .values(**_values, created_at=param("changed_at", exceptions.c.created_at))
    .returning(*_returned)
    .cte("added")
)
_ADD = _with_history_and_audit(_added, "ADDED")
_REMOVE = _with_history_and_audit(sa.delete(exceptions).where(_ONE).returning(*_returned).cte("removed"), "REMOVED")

_batch = (
    sa.select(exceptions.c.id)
    .where(exceptions.c.doctor_id == _DOCTOR_ID, exceptions.c.reason.is_not(None))
    .limit(sa.bindparam("limit", type_=sa.BigInteger))
    .cte("batch")
)
FORGET_REASONS = Statement(
    sa.update(exceptions).where(exceptions.c.id == _batch.c.id).values(reason=sa.null()).returning(exceptions.c.id)
)
