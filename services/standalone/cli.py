"""`python -m services.standalone`: serve the whole platform on this machine, or walk through it."""

import os

import typer

from services.kit import log, tracing
from services.kit.command import cli
from services.kit.settings import SettingsError
from services.standalone import demo as walkthrough
from services.standalone import platform
from services.standalone.process import ServerError
from services.standalone.settings import Settings

app = typer.Typer(
    pretty_exceptions_enable=False, add_completion=False, help="Run the whole booking platform in one process."
)


@app.callback(invoke_without_command=True)
def serve(context: typer.Context) -> None:
    """Serve the platform until Ctrl-C."""
    if context.invoked_subcommand:
        return
    settings = cli.settings(Settings)
    log.configure(settings.log_level)
    try:
        with tracing.exporting("booking-platform", os.environ):
            platform.serve(settings, os.environ)
    except (ServerError, SettingsError, OSError) as error:
        raise cli.failed(str(error)) from None


@app.command()
def demo() -> None:
    """Walk through a booking on the running platform."""
    try:
        walkthrough.walk(cli.settings(Settings))
    except walkthrough.Unexpected as error:
        raise cli.failed(str(error)) from None
