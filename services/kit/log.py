"""Structured logs: JSON lines in production, readable ones on a terminal, each with the request it belongs to."""

import logging
import sys
from contextvars import ContextVar
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def trace_id(parent: str | None) -> str | None:
    """The trace id of a W3C `traceparent`."""
    return parent.split("-")[1] if parent else None


def _add_request(_: Any, __: str, event: EventDict) -> EventDict:
    if (current := request_id.get()) is not None:
        event.setdefault("request_id", current)
    if (parent := traceparent.get()) is not None:
        event.setdefault("trace_id", trace_id(parent))
    return event


def _encode(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def configure(level: str, *, readable: bool | None = None) -> None:
    """Send the platform's and every library's log records to standard output in one format.

    `readable` defaults to whether standard output is a terminal.
    """
    if readable is None:
        readable = sys.stdout.isatty()
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
    # Libraries speak only when something is wrong; each request already has its own line.
    for library in ("uvicorn", "httpx", "httpcore", "alembic", "pymongo"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level)))
