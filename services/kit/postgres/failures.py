"""What an error from PostgreSQL or its driver means: for the connection it came from, and for the client."""

from collections.abc import Mapping

import asyncpg
import structlog
from sqlalchemy.exc import TimeoutError as PoolExhausted

from services.kit.errors import ProblemError, Unavailable

Constraints = Mapping[str, type[ProblemError]]

log = structlog.get_logger("database")
# The statement, its values or the order of calls are wrong and will be wrong next time: a bug of ours, not an outage.
_BUG_CLASSES = {"22", "23", "25", "42"}
# Of class 25, but an outage: a primary became a standby, or the server ended a transaction that took too long.
_OUTAGES = {"25006", "25P03", "25P04"}
_DRIVER_OUTAGES = (OSError, TimeoutError, PoolExhausted, asyncpg.InterfaceError, asyncpg.InternalClientError)


def leaves_connection_usable(error: BaseException | None) -> bool:
    """Decide whether a connection may be used again after a block on it ended with `error`.

    Only an error that the server sent leaves both sides in a known state. asyncpg parses a statement before it encodes
    the parameters, and sends the end of the query only afterwards: a parameter that cannot be encoded leaves the server
    in the middle of a query, which its `statement_timeout` ends later, and the error then answers whatever
    comes next. Cancellation and time-outs are no better. Class 25 says that driver and server disagree about the
    transaction.
    """
    if error is None or isinstance(error, ProblemError):
        return True
    original = driver_error(error)
    # asyncpg gives errors of its own the classes and SQLSTATEs of the server's, but no severity.
    from_server = isinstance(original, asyncpg.PostgresError) and original.severity is not None
    return from_server and not str(sqlstate(error)).startswith("25")


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of an asyncpg error, or of SQLAlchemy's wrapping of one."""
    state = getattr(error and driver_error(error), "sqlstate", None)
    return state if isinstance(state, str) else None


def translated(error: Exception, constraints: Constraints) -> Exception:
    """Return the error for the client: a domain error, `Unavailable`, or `error` itself when it is a bug."""
    if isinstance(error, ProblemError):
        return error
    state = sqlstate(error)
    if state is None:
        if not isinstance(driver_error(error), _DRIVER_OUTAGES):
            return error
    elif state[:2] == "23":
        name = str(getattr(driver_error(error), "constraint_name", None))
        return constraints[name]() if name in constraints else error
    elif state[:2] in _BUG_CLASSES and state not in _OUTAGES:
        return error
    log.warning("database unavailable", sqlstate=state, error=type(error).__name__)
    return Unavailable()


def driver_error(error: BaseException) -> BaseException:
    """Return asyncpg's error where SQLAlchemy has wrapped it, else `error`."""
    original: BaseException = getattr(error, "driver_exception", error)
    return original
