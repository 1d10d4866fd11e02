"""`python -m services.standalone`: the whole platform on this machine, and a demo of it."""

import typer

from services.kit import log
from services.kit.command import cli
from services.kit.settings import SettingsError
from services.standalone import demo as story
from services.standalone import platform
from services.standalone.process import ServerError
from services.standalone.settings import Settings

app = typer.Typer(
    pretty_exceptions_enable=False, add_completion=False, help="The whole booking platform in one process."
)


@app.callback(invoke_without_command=True)
def serve(context: typer.Context) -> None:
    """Serve the platform until Ctrl-C."""
    if context.invoked_subcommand:
        return
    settings = cli.settings(Settings)
    log.configure(settings.log_level)
    try:
        platform.serve(settings)
    except (ServerError, SettingsError, OSError) as error:
        raise cli.failed(str(error)) from None


@app.command()
def demo() -> None:
    """Walk the main job against the running platform, as a person would."""
    settings = cli.settings(Settings)
    try:
        story.tell(settings)
    except story.StoryEnded as error:
        raise cli.failed(str(error)) from None
