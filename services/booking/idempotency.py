"""Idempotency keys: a request that is repeated with its key is answered with the bytes of its first answer."""

import re
from hashlib import sha256
from typing import Self
from uuid import UUID

import msgspec
import sqlalchemy as sa

from services.booking.errors import IdempotencyKeyReused
from services.booking.models import idempotency_keys as keys
from services.kit.errors import BadRequest, FieldError
from services.kit.postgres.database import Connection, Database, Statement

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT = "24 hours"
_BATCH = 1_000


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    location: str
    etag: str
    body: bytes
    replayed: bool = False


class RequestKey(msgspec.Struct, frozen=True, kw_only=True):
    """A client's key within its scope: the user, and the method and template of the route."""

    user_id: UUID
    route: str
    key: str
    fingerprint: bytes

    @classmethod
    def of(cls, header: str | None, *, user_id: UUID, route: str, body: msgspec.Struct) -> Self | None:
        """None without the header. Bodies are compared by what they say, not by how they are spelled."""
        if header is None:
            return None
        if not _VISIBLE_ASCII.fullmatch(header):
            raise BadRequest(errors=[FieldError("Idempotency-Key", "Expected 1 to 255 visible ASCII characters")])
        return cls(user_id=user_id, route=route, key=header, fingerprint=sha256(msgspec.json.encode(body)).digest())


async def find_answer(connection: Connection, key: RequestKey) -> Answer | None:
    """The answer to replay; raises `IdempotencyKeyReused` when it was given to another request."""
    row = await FIND.fetchrow(connection, user_id=key.user_id, route=key.route, key=key.key)
    if row is None:
        return None
    fingerprint, status, location, etag, body = row
    if fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    return Answer(status=status, location=location, etag=etag, body=body, replayed=True)


def remember(created: sa.CTE) -> sa.Insert:
    """The INSERT of `remembered`, for the statement that creates what the answer tells of: only where it did."""
    names = ("user_id", "route", "key", "fingerprint", "status", "location", "etag", "body")
    values = [sa.bindparam(f"key_{name}", type_=keys.c[name].type) for name in names]
    return sa.insert(keys).from_select(names, sa.select(*values).select_from(created))


def remembered(key: RequestKey, answer: Answer) -> dict[str, object]:
    """The values of `remember`."""
    names = ("status", "location", "etag", "body")
    values = {name: getattr(key, name) for name in key.__struct_fields__}
    values |= {name: getattr(answer, name) for name in names}
    return {f"key_{name}": value for name, value in values.items()}


async def forget_old_keys(database: Database) -> None:
    """In batches, so that each one is short, and any number of replicas may be at it."""
    forgotten = _BATCH
    while forgotten == _BATCH:
        forgotten = len(await database.fetch(_FORGET))


FIND = Statement(
    sa.select(keys.c.fingerprint, keys.c.status, keys.c.location, keys.c.etag, keys.c.body).where(
        keys.c.user_id == sa.bindparam("user_id"),
        keys.c.route == sa.bindparam("route"),
        keys.c.key == sa.bindparam("key"),
    )
)
_old = (
    sa.select(keys.c.user_id, keys.c.route, keys.c.key)
    .where(keys.c.created_at < sa.func.now() - sa.text(f"interval '{_KEPT}'"))
    .order_by(keys.c.created_at)
    .limit(sa.literal_column(str(_BATCH)))
    .with_for_update(skip_locked=True)
    .cte("old")
)
_FORGET = Statement(
    sa.delete(keys)
    .where(keys.c.user_id == _old.c.user_id, keys.c.route == _old.c.route, keys.c.key == _old.c.key)
    .returning(keys.c.created_at)
)
