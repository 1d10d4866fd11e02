"""The audit trail over HTTP: recording accesses before they are answered, and the route that reads the trail."""

from collections import Counter
from collections.abc import Awaitable, Callable
from time import time
from typing import Annotated, Any
from uuid import UUID

import structlog
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter
from litestar.types import HTTPScope

from services.kit.auth import Principal
from services.kit.errors import Unavailable
from services.kit.http.guards import requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import WITH_ROLE, responses
from services.kit.schema import INSTANT, parse_instant
from services.kit.trail.entry import AuditEntry, AuditFilter, Trail, entry

log = structlog.get_logger("audit")

_REFUSALS_PER_HOUR = 100
_HOUR_SECONDS = 3600


def record(kind: str) -> dict[str, Any]:
    """Return the `opt` of a controller or handler about personal records: their type in the audit trail."""
    return {"record": kind}


class AccessAudit:
    """Record, before the response is sent, refusals and every record that `reader` reads.

    Of a caller's refusals in an hour by one process, the first 100 are recorded, then the 1,000th, the 10,000th and so
    on: with an entry for each, the 600 requests a minute of one account would fill the disk.
    """

    def __init__(
        self, add: Callable[[dict[str, Any]], Awaitable[None]], *, reader: str, clock: Callable[[], float] = time
    ) -> None:
        self._add, self._reader, self._clock = add, reader, clock
        self._hour = 0
        self._refusals: Counter[UUID] = Counter()

    async def __call__(self, scope: HTTPScope, caller: Principal, status: int) -> None:
        """Raise `Unavailable` when a read cannot be recorded; it must not be answered then."""
        if "route_handler" not in scope:
            return  # no route has this address
        kind: str | None = scope["route_handler"].opt.get("record")
        given: dict[str, Any] = scope["path_params"]  # converted, whatever its type says
        target_id = next((value for value in given.values() if isinstance(value, UUID)), None)
        # A 404 by id may hide a record from the caller, so it is recorded like a 403.
        if status == 403 or (status == 404 and target_id is not None):
            number = self._count_refusal(caller.id)
            if number > _REFUSALS_PER_HOUR and str(number).strip("0") != "1":
                return
            values = entry(
                "access.refused",
                actor=caller,
                target_type=kind or "own account",
                target_id=target_id,
                code=scope["state"].get("problem", "not_found"),
            )
            try:
                await self._add(values)
            except Unavailable:
                log.warning("a refusal could not be recorded", subject=str(caller.id))
            return
        if kind is None or status >= 300 or scope["method"] != "GET":
            return
        if caller.role == self._reader and caller.id != target_id:
            await self._add(entry("record.read", actor=caller, target_type=kind, target_id=target_id))

    def _count_refusal(self, caller_id: UUID) -> int:
        """Return how many this is in the hour."""
        if (hour := int(self._clock() // _HOUR_SECONDS)) != self._hour:
            self._hour = hour
            self._refusals.clear()
        self._refusals[caller_id] += 1
        return self._refusals[caller_id]


def audit_handler(path: str, trail: Trail, *, operation_id: str, reader: str) -> HTTPRouteHandler:
    @get(
        path,
        tags=["Audit"],
        operation_id=operation_id,
        summary="Read the audit trail",
        before_request=requires(reader),
        responses=responses(*WITH_ROLE),
        opt=record("audit"),
    )
    async def read_audit_trail(
        actor: FromQuery[UUID | None] = None,
        target: FromQuery[UUID | None] = None,
        action: Annotated[str | None, QueryParameter(max_length=64, description="Such as `login.failed`")] = None,
        from_: Annotated[
            str | None,
            QueryParameter(
                name="from", max_length=64, schema_extra=INSTANT, description="Inclusive lower bound of `at`"
            ),
        ] = None,
        to: Annotated[
            str | None, QueryParameter(max_length=64, schema_extra=INSTANT, description="Exclusive upper bound of `at`")
        ] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[AuditEntry]:
        """List entries, newest first. For admins.

        An entry says who did what to whom or what, when and from where, and whether it was refused. Entries have ids
        and no names, and are never changed. Reading them adds an entry.
        """
        wanted = AuditFilter(
            actor_id=actor,
            target_id=target,
            action=action,
            from_=parse_instant(from_, "from"),
            to=parse_instant(to, "to"),
        )
        found = await trail.list(wanted, limit=limit + 1, before=decode_cursor(cursor, trail.key))
        return Page.of(found, limit, lambda entry: entry.id)

    return read_audit_trail
