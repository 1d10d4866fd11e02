"""Idempotency keys: a request that is repeated with its key is answered with the bytes of its first answer."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Self
from uuid import UUID

import msgspec
import sqlalchemy as sa

from services.booking.errors import IdempotencyKeyReused, RequestInProgress
from services.booking.models.messages import idempotency_keys as keys
from services.booking.time.locks import LOCK, LOCKS, lock_key
from services.kit.errors import BadRequest, FieldError
from services.kit.postgres.database import Connection, Statement

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a client receives. `location` and `etag` become headers; `people` are the users whose data `body` holds.

    `stored` tells `answer_once` that `insert_answer` was part of the statement that did the work.
    """

    status: int
    location: str | None = None
    etag: str | None = None
    body: bytes
    people: Sequence[UUID] = ()
    stored: bool = False
    replayed: bool = False

    @property
    def headers(self) -> dict[str, str]:
        replayed = "true" if self.replayed else None
        named = {"Location": self.location, "ETag": self.etag, "Idempotency-Replayed": replayed}
        return {name: value for name, value in named.items() if value is not None}


class RequestKey(msgspec.Struct, frozen=True, kw_only=True):
    """A client's key in its scope: the user, and the method and template of the route."""

    user_id: UUID
    route: str
    key: str
    fingerprint: bytes

    @classmethod
    def of(cls, header: str | None, *, user_id: UUID, route: str, body: msgspec.Struct) -> Self | None:
        """Return None without the header. Bodies are compared by their values, not by their spelling."""
        if header is None:
            return None
        if not _VISIBLE_ASCII.fullmatch(header):
            raise BadRequest(errors=[FieldError("Idempotency-Key", "Expected 1 to 255 visible ASCII characters")])
        return cls(user_id=user_id, route=route, key=header, fingerprint=sha256(msgspec.json.encode(body)).digest())


async def answer_once(
    connection: Connection,
    key: RequestKey | None,
    work: Callable[[], Awaitable[Answer]],
    *,
    locks: Mapping[str, int | None],
) -> Answer:
    """Return the answer stored under `key`, or take `locks`, run `work` and store its answer in the same transaction.

    Without a key `work` runs in any case. A refusal raised by `work` leaves the key free. Raises `RequestInProgress`
    while another transaction holds the key, and never waits for it.
    """
    if key is None:
        await LOCK.execute(connection, **locks)
        return await work()
    request_lock = lock_key("request", str(key.user_id), key.route, key.key)
    begun = await BEGIN.fetchrow(connection, request_lock=request_lock, **locks, **key_values(key))
    if not begun["locked"]:
        raise RequestInProgress
    if begun["fingerprint"] is not None:
        return _replay(key, begun)
    answer = await work()
    if not answer.stored:
        await _STORE.execute(connection, people=answer.people, **answer_values(key, answer))
    return answer


def insert_answer(for_each: sa.FromClause, people: sa.ColumnElement[Any]) -> sa.Insert:
    """Return the INSERT of `answer_values`, for the statement that creates the rows of `for_each`."""
    values = {**_STORED, "people": people}
    return sa.insert(keys).from_select(list(values), sa.select(*values.values()).select_from(for_each))


def answer_values(key: RequestKey, answer: Answer) -> dict[str, Any]:
    values = {f"answer_{name}": getattr(answer, name) for name in _ANSWER}
    return {**key_values(key), "answer_fingerprint": key.fingerprint, **values}


async def find_answer(connection: Connection, key: RequestKey) -> Answer | None:
    """Return the stored answer; raises `IdempotencyKeyReused` when it belongs to another request."""
    row = await FIND.fetchrow(connection, **key_values(key))
    return None if row is None else _replay(key, row)


def _replay(key: RequestKey, row: Any) -> Answer:
    if row["fingerprint"] != key.fingerprint:
        raise IdempotencyKeyReused
    return Answer(**{name: row[name] for name in _ANSWER}, replayed=True)


def key_values(key: RequestKey | None) -> dict[str, Any]:
    """Return the parameters of `ANSWERED`; without a key nothing was answered."""
    return {"key_user": key and key.user_id, "key_route": key and key.route, "key": key and key.key}


async def forget_answers(connection: Connection, user_id: UUID, limit: int) -> int:
    """Delete stored answers to an erased user or with data of theirs; return how many of at most `limit`."""
    return len(await FORGET_ANSWERS.fetch(connection, key_user=user_id, people=[user_id], limit=limit))


_ANSWER = ("status", "location", "etag", "body")
_USER = sa.bindparam("key_user", type_=sa.Uuid)
_ROUTE, _KEY = (sa.bindparam(name, type_=sa.Text) for name in ("key_route", "key"))
_SAME_KEY = sa.and_(keys.c.user_id == _USER, keys.c.route == _ROUTE, keys.c.key == _KEY)
_KEPT_COLUMNS = ("fingerprint", *_ANSWER)

# A column that tells, in another statement, whether the key has an answer. Without a key its parameters are null.
ANSWERED = sa.exists(sa.select(sa.literal_column("1")).where(_SAME_KEY))
FIND = Statement(sa.select(*(keys.c[name] for name in _KEPT_COLUMNS)).where(_SAME_KEY))
_begin = sa.func.begin_request(
    sa.bindparam("request_lock", type_=sa.BigInteger),
    LOCKS,
    _USER,
    _ROUTE,
    _KEY,
).table_valued("locked", *_KEPT_COLUMNS)
BEGIN = Statement(sa.select(_begin))
# A prefix, because these parameters also stand in statements that write an appointment.
_STORED: dict[str, sa.BindParameter[Any]] = {
    "user_id": _USER,
    "route": _ROUTE,
    "key": _KEY,
    **{name: sa.bindparam(f"answer_{name}", type_=keys.c[name].type) for name in _KEPT_COLUMNS},
}
_PEOPLE = sa.bindparam("people", type_=keys.c.people.type)
_STORE = Statement(sa.insert(keys).values(**_STORED, people=_PEOPLE))

_batch = (
    sa.select(keys.c.user_id, keys.c.route, keys.c.key)
    .where(sa.or_(keys.c.user_id == _USER, keys.c.people.contains(_PEOPLE)))
    .limit(sa.bindparam("limit", type_=sa.BigInteger))
    .with_for_update(skip_locked=True)
    .cte("batch")
)
FORGET_ANSWERS = Statement(
    sa.delete(keys)
    .where(keys.c.user_id == _batch.c.user_id, keys.c.route == _batch.c.route, keys.c.key == _batch.c.key)
    .returning(keys.c.created_at)
)
