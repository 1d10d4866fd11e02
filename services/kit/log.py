"""Structured logs: JSON lines in production and readable lines on a terminal, each with the id of its request."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any
from uuid import UUID

import msgspec
import structlog
from structlog.typing import EventDict, Processor

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def trace_id(parent: str | None) -> str | None:
    """Return the trace id in a W3C `traceparent`."""
    return parent.split("-")[1] if parent else None


_access = structlog.get_logger("access")
_access_lines: IO[bytes] | None = None


def access(service: str, method: str, route: str, status: int, seconds: float, subject: UUID | None) -> None:
    """Log a request. JSON lines are written here, because structlog takes as long for one as all of the service's other
    work around a handler.
    """
    line: dict[str, Any] = {
        "service": service,
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "subject": subject,
    }
    if _access_lines is None:
        _access.info("request", **line)
        return
    line |= {
        "request_id": request_id.get(),
        "trace_id": trace_id(traceparent.get()),
        "event": "request",
        "level": "info",
        "time": datetime.now(UTC),
    }
    _access_lines.write(msgspec.json.encode(line) + b"\n")
    _access_lines.flush()


def _add_request(_: Any, __: str, event: EventDict) -> EventDict:
    if (current := request_id.get()) is not None:
        event.setdefault("request_id", current)
    if (parent := traceparent.get()) is not None:
        event.setdefault("trace_id", trace_id(parent))
    return event


def _encode(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def configure(level: str, *, readable: bool | None = None) -> None:
    """Write the records of the platform and of all libraries to standard output in one format.

    `readable` defaults to whether standard output is a terminal.
    """
    global _access_lines
    if readable is None:
        readable = sys.stdout.isatty()
    logs_requests = logging.getLevelName(level) <= logging.INFO
    _access_lines = sys.stdout.buffer if logs_requests and not readable else None
    shared: list[Processor] = [
        _add_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if readable
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_encode)]
    )
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # Only the warnings of libraries: each request already has a line.
    for library in ("uvicorn", "httpx", "httpcore", "alembic", "pymongo"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level)))
