"""What the command lines of the services share: settings from the environment, and failures without a traceback."""

import os
from collections.abc import Callable
from typing import TypeVar

import msgspec
import typer
from rich.console import Console

from services.kit import failpoints, log
from services.kit.command import server
from services.kit.http.service import Service
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
