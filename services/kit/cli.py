"""What the command lines of the services share: settings from the environment, and failures without a traceback."""

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.console import Console

from services.kit import failpoints, log, migrations, server
from services.kit.app import Service
from services.kit.audit import AuditTables
from services.kit.database import Database
from services.kit.errors import Unavailable
from services.kit.metrics import create_registry
from services.kit.seals import Verdict, verify
from services.kit.settings import ServiceSettings, SettingsError, load

S = TypeVar("S", bound=msgspec.Struct)
Own = TypeVar("Own", bound=ServiceSettings)

out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def typer_app(help_text: str) -> typer.Typer:
    return typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True, add_completion=False, help=help_text)


def settings(cls: type[S]) -> S:
    """Of this process' environment; a missing or malformed one ends the command with 2 and its name."""
    try:
        return load(cls, os.environ)
    except SettingsError as error:
        raise failed(str(error)) from None


def failed(message: str, code: int = 2) -> typer.Exit:
    """To raise: the message goes to standard error."""
    _err.print(message, markup=False)
    return typer.Exit(code)


def serve(cls: type[Own], create: Callable[[Own], Service]) -> None:
    """Serve until SIGTERM or SIGINT."""
    given = settings(cls)
    log.configure(given.log_level)
    try:
        failpoints.arm(given.failpoints, given.environment)
        server.serve(create(given))
    except (SettingsError, OSError) as error:
        raise failed(str(error)) from None


def migrate(directory: Path, *, migration_url: str, application_url: str) -> None:
    applied = asyncio.run(migrations.migrate(directory, migration_url=migration_url, application_url=application_url))
    out.print(f"applied: {', '.join(applied)}" if applied else "nothing to apply", markup=False)


KnownHead = Annotated[
    str | None,
    typer.Option(
        "--head",
        help="A head that was printed before, as position:hash. Without one the loss of the newest entries is not seen",
    ),
]


def verify_audit(url: str, tables: AuditTables, head: str | None) -> None:
    """Ends with 1 at the first broken link, and else prints the head."""
    if head is not None and not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", head):
        raise failed("--head: expected what this command prints, as position:hash")

    async def run() -> Verdict:
        database = Database(url, registry=create_registry(), max_connections=1)
        await database.open()
        try:
            return await verify(database, tables, head)
        finally:
            await database.close()

    try:
        verdict = asyncio.run(run())
    except Unavailable as error:
        raise failed(str(error)) from None
    if verdict.broken is not None:
        raise failed(f"broken at {verdict.broken}", code=1)
    out.print(f"whole; not sealed yet: {verdict.unsealed}", markup=False)
    out.print(f"head {verdict.head}", markup=False)
