from collections.abc import Sequence

import sqlalchemy as sa

from services.auth.models import audit_log
from services.kit.auth import Principal
from services.kit.postgres.database import Database, Statement
from services.kit.trail.entry import AuditEntry
from services.kit.trail.tables import entries_of

_EXPORTED = 1_000
_me = sa.bindparam("me", type_=sa.Uuid)


def _latest_where(column: sa.Column[object]) -> sa.Select[tuple[object, ...]]:
    """Select by one index: an OR of both columns would walk the whole trail."""
    latest = sa.select(audit_log).where(column == _me).order_by(audit_log.c.seq.desc())
    return sa.select(latest.limit(sa.literal_column(str(_EXPORTED))).subquery())


_own_entries = Statement(
    sa.union(_latest_where(audit_log.c.actor_id), _latest_where(audit_log.c.target_id))
    .order_by(sa.literal_column("seq").desc())
    .limit(sa.literal_column(str(_EXPORTED)))
)


class OwnTrailReads:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, principal: Principal) -> Sequence[AuditEntry]:
        """Return the latest 1,000 entries by or about the caller, the newest first."""
        return entries_of(await self._database.fetch(_own_entries, me=principal.id))
