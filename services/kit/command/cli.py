"""The common part of the services' command lines: settings from the environment, failures without a traceback."""

import os
from collections.abc import Callable
from typing import TypeVar

import msgspec
import typer
from rich.console import Console

from services.kit import failpoints, log, tracing
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
    """Load settings from the environment; end the command with 2 and the name of one that is missing or malformed."""
    try:
        return load(cls, os.environ)
    except SettingsError as error:
        raise failed(str(error)) from None


def failed(message: str, code: int = 2) -> typer.Exit:
    """Print `message` to standard error, and return the exit to raise."""
    _err.print(message, markup=False)
    return typer.Exit(code)


def serve(cls: type[Own], create: Callable[[Own], Service]) -> None:
    """Serve until SIGTERM or SIGINT."""
    loaded = settings(cls)
    log.configure(loaded.log_level)
    try:
        failpoints.arm(loaded.failpoints, loaded.environment)
        service = create(loaded)
        with tracing.exporting(service.name, os.environ):
            server.serve(service)
    except (SettingsError, OSError) as error:
        raise failed(str(error)) from None
