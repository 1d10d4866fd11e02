"""An entry of the audit trail: who did what to whom. It is inserted in the transaction that does it, and never changed.

An entry has ids, codes, an address and a time: no name, e-mail address, secret or text that a user typed.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

import msgspec

from services.kit.auth import Principal
from services.kit.log import request_id
from services.kit.origin import origin
from services.kit.schema import Wire

EXPIRED = "audit.expired"  # `request_id` is the head of the links that were exported and removed


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
    """Return an entry's values, with the address and id of the current request if there is one.

    `code` is the error code of a refusal, None for a success. Without a session to name the actor by, pass `actor_id`
    and `actor_role`, or neither when the actor is unknown.
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
    """`code` says why something was refused. `address` and `requestId` are null for work outside of a request."""

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
    """Match entries with `from_` <= `at` < `to`; a field that is None matches every entry."""

    actor_id: UUID | None = None
    target_id: UUID | None = None
    action: str | None = None
    from_: datetime | None = None
    to: datetime | None = None

    def values(self) -> dict[str, Any]:
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


class Trail(Protocol):
    """PostgreSQL's trail, or notification's in MongoDB. `key` is the type of its entries' ids."""

    @property
    def key(self) -> Any: ...

    async def add(self, entry: dict[str, Any]) -> None: ...

    async def list(self, wanted: AuditFilter, *, limit: int, before: Any) -> Sequence[AuditEntry]: ...
