"""SQLAlchemy on asyncpg, for writes through its sessions and for migrations."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.kit.postgres.connector import Connector
from services.kit.postgres.failures import leaves_connection_usable


def async_engine(url: str, *, connect: Mapping[str, Any] | None = None, **options: Any) -> AsyncEngine:
    """Make an engine on connections that a `Connector` opens with `connect`'s arguments.

    Errors hide the parameters of their statements, which would otherwise reach the log.
    """
    creator = partial(Connector(url).connect, **(connect or {}))
    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, hide_parameters=True, **options)
    event.listen(engine.sync_engine, "handle_error", _end_unusable_connection)
    return engine


def _end_unusable_connection(context: ExceptionContext) -> None:
    """End the connection unless the server refused a statement of a transaction, which ROLLBACK then ends.

    COMMIT and ROLLBACK have no `statement`, and after a failed BEGIN there is no transaction. The connection is
    terminated here because SQLAlchemy closes it politely, for which a silent server takes two seconds.
    """
    if context.connection is None:
        return
    connection: Any = context.connection.connection.driver_connection
    in_transaction = context.statement is not None and connection.is_in_transaction()
    if not in_transaction or not leaves_connection_usable(context.original_exception):
        connection.terminate()
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False
