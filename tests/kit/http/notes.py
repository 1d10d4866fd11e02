"""The routes of a service that keeps notes."""

from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
from litestar import Request as LitestarRequest
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody

from services.contracts.enums import Role
from services.kit.errors import Conflict, TooManyRequests
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, requires, requires_internal_token
from services.kit.http.paging import Cursor, Limit, Page
from services.kit.schema import Instant, Line, Request, Text, parse_instant


class Note(Request, frozen=True):
    owner_id: UUID
    at: Instant
    title: Line
    stars: Annotated[int, msgspec.Meta(ge=1, le=5)] = 3
    text: Text | msgspec.UnsetType | None = msgspec.UNSET


@post("/api/notes/{note_id:uuid}", before_request=requires(Role.DOCTOR))
async def write(note_id: FromPath[UUID], data: JSONBody[Note], request: AuthenticatedRequest) -> dict[str, Any]:
    return {"id": note_id, "by": request.user.id, "title": data.title, "stars": data.stars}


@get("/api/notes", security=PUBLIC)
async def read(cursor: Cursor = None, limit: Limit = 50, since: FromQuery[str | None] = None) -> Page[str]:
    at = parse_instant(since, "since")
    return Page(items=[str(at), str(limit)], next_cursor=cursor)


@get("/api/mine", before_request=requires())
async def mine(request: AuthenticatedRequest) -> dict[str, UUID]:
    return {"id": request.user.id}


@get("/api/broken", security=PUBLIC)
async def broken() -> None:
    raise RuntimeError("SELECT secret FROM table")


@get("/api/taken", security=PUBLIC)
async def taken() -> None:
    raise Conflict("Taken by another note", alternatives=["a", "b"])


@get("/api/limited", security=PUBLIC)
async def limited() -> None:
    raise TooManyRequests(7)


@get("/api/context", security=PUBLIC)
async def context(request: LitestarRequest[Any, Any, Any]) -> dict[str, str]:
    return {"id": request.scope["state"]["request_id"]}


@get("/api/page", security=PUBLIC, media_type="text/html")
async def page() -> str:
    return "<!doctype html><title>A page</title>"


@get("/api/found", security=PUBLIC)
async def found(word: FromQuery[str]) -> str:
    return word


@get("/internal/thing", before_request=requires_internal_token("t" * 32))
async def internal_thing() -> str:
    return "thing"


def note(**changes: Any) -> dict[str, Any]:
    return {"ownerId": str(uuid4()), "at": "2026-12-01T09:30:00Z", "title": "First", **changes}


HANDLERS = [write, read, mine, broken, taken, limited, context, page, found]
INTERNAL_HANDLERS = [internal_thing]
