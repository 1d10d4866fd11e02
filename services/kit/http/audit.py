"""The audit trail: who did what to whom, written in the transaction that does it, and never changed.

An entry has ids, codes, an address and a time: no name, no e-mail address, no secret, nothing that somebody typed.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Protocol
from uuid import UUID

import msgspec
import structlog
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter
from litestar.types import HTTPScope

from services.kit.auth import InvalidToken, Principal
from services.kit.errors import Forbidden, Unauthorized, Unavailable
from services.kit.http.guards import requires
from services.kit.http.origin import origin
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from services.kit.http.responses import responses
from services.kit.http.schema import INSTANT, Wire, parse_instant
from services.kit.log import request_id

log = structlog.get_logger("audit")


class Result(StrEnum):
    SUCCEEDED = "SUCCEEDED"
    REFUSED = "REFUSED"


def entry(
    action: str,
    *,
    target_type: str,
    target_id: UUID | None,
    actor: Principal | None = None,
    actor_id: UUID | None = None,
    actor_role: str | None = None,
    session_id: UUID | None = None,
    code: str | None = None,
) -> dict[str, Any]:
    """What is written down, with address and id of the request at hand.

    `code` is why it was refused, None for what was done. Whoever has no session yet, or none at all, is named by
    `actor_id` and `actor_role`; nobody is, where it is not known who it was.
    """
    seen = origin.get()
    return {
        "action": action,
        "result": Result.SUCCEEDED if code is None else Result.REFUSED,
        "code": code,
        "actor_id": actor.id if actor else actor_id,
        "actor_role": actor.role if actor else actor_role,
        "session_id": actor.session_id if actor else session_id,
        "target_type": target_type,
        "target_id": target_id,
        "address": seen.address if seen else None,
        "request_id": request_id.get(),
    }


class AuditEntry(Wire, frozen=True):
    """`code` says why something was refused. `address` and `requestId` are missing where no request was at hand."""

    id: int | UUID
    at: datetime
    action: str
    result: Result
    code: str | None
    actor_id: UUID | None
    actor_role: str | None
    session_id: UUID | None
    target_type: str
    target_id: UUID | None
    address: str | None
    request_id: str | None


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """`from_` <= `at` < `to`; what is None filters nothing."""

    actor_id: UUID | None = None
    target_id: UUID | None = None
    action: str | None = None
    from_: datetime | None = None
    to: datetime | None = None

    def values(self) -> dict[str, Any]:
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


class Trail(Protocol):
    """PostgreSQL's trail, or notification's. `key` is the type of its entries' ids."""

    @property
    def key(self) -> Any: ...

    async def add(self, entry: dict[str, Any]) -> None: ...

    async def list(self, wanted: AuditFilter, *, limit: int, before: Any) -> Sequence[AuditEntry]: ...


def record(kind: str) -> dict[str, Any]:
    """The `opt` of a controller or handler that is about somebody's records, of this type in the audit trail."""
    return {"record": kind}


class AccessAudit:
    """Writes down, before the answer is sent, who was refused something, and which records `reader` has read."""

    def __init__(self, add: Callable[[dict[str, Any]], Awaitable[None]], *, reader: str) -> None:
        self._add, self._reader = add, reader

    async def __call__(self, scope: HTTPScope, caller: Principal, status: int) -> None:
        """Raises `Unavailable` when a read cannot be written down: then it must not be answered."""
        if "route_handler" not in scope:
            return  # no route has this address
        kind: str | None = scope["route_handler"].opt.get("record")
        given: dict[str, Any] = scope["path_params"]  # converted, whatever its type says
        target_id = next((value for value in given.values() if isinstance(value, UUID)), None)
        # A 404 by id may be for something that is not there, or that the caller is not to know of: both are looked for.
        if status == 403 or (status == 404 and target_id is not None):
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
                log.warning("a refusal could not be written down", subject=str(caller.id))
            return
        if kind is None or status >= 300 or scope["method"] != "GET":
            return
        if caller.role == self._reader and caller.id != target_id:
            await self._add(entry("record.read", actor=caller, target_type=kind, target_id=target_id))


def audit_handler(path: str, trail: Trail, *, operation_id: str, reader: str) -> HTTPRouteHandler:
    position: Any = tuple[trail.key]  # type: ignore[name-defined]

    @get(
        path,
        tags=["Audit"],
        operation_id=operation_id,
        summary="Read the audit trail",
        before_request=requires(reader),
        responses=responses(Unauthorized, InvalidToken, Forbidden, Unavailable),
        opt=record("audit"),
    )
    async def read_audit_trail(
        actor: FromQuery[UUID | None] = None,
        target: FromQuery[UUID | None] = None,
        action: Annotated[str | None, QueryParameter(max_length=64, description="Such as `login.failed`")] = None,
        from_: Annotated[
            str | None,
            QueryParameter(name="from", max_length=64, schema_extra=INSTANT, description="The earliest `at`"),
        ] = None,
        to: Annotated[
            str | None, QueryParameter(max_length=64, schema_extra=INSTANT, description="The `at` to end before")
        ] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[AuditEntry]:
        """For an admin, the newest first: who did what, to whom or what, when and from where, and what was refused. It
        has ids and no names. Entries are never changed or removed; reading them is an entry as well.
        """
        wanted = AuditFilter(
            actor_id=actor,
            target_id=target,
            action=action,
            from_=parse_instant(from_, "from"),
            to=parse_instant(to, "to"),
        )
        before = decode_cursor(cursor, position)[0] if cursor else None
        found = await trail.list(wanted, limit=limit + 1, before=before)
        last = found[limit - 1] if len(found) > limit else None
        return Page(
            items=list(found[:limit]), next_cursor=encode_cursor(msgspec.to_builtins(last.id)) if last else None
        )

    return read_audit_trail
