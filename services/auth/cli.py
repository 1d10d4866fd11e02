"""`python -m services.auth <command>`: each command reads its settings from the environment."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from services.auth.accounts import commands
from services.auth.app import MIGRATIONS, create
from services.auth.mfa import commands as mfa
from services.auth.sessions import keys
from services.auth.settings import DatabaseSettings, KeySettings, MigrationSettings, Settings
from services.auth.users.passwords import refuse_common
from services.kit.command import audit as audit_cli
from services.kit.command import cli, postgres
from services.kit.errors import ProblemError
from services.kit.subkeys import Subkeys

app = cli.typer_app("The auth service of the booking platform.")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (ProblemError, OSError, keys.UnreadableKeys) as error:
        raise cli.failed(str(error)) from None


@app.command()
def serve() -> None:
    """Serve until SIGTERM or SIGINT."""
    cli.serve(Settings, create)


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date, as its owner's role."""
    settings = cli.settings(MigrationSettings)
    postgres.migrate(
        MIGRATIONS, migration_url=settings.auth_migration_database_url, application_url=settings.auth_database_url
    )


@app.command()
def set_up_mfa(email: Annotated[str, typer.Option(help="The admin's e-mail address")]) -> None:
    """Give an admin new one-time codes, and print what an authenticator app wants and ten recovery codes."""
    settings = cli.settings(Settings)
    subkeys = Subkeys(settings.auth_secret_key, settings.auth_previous_secret_key)
    with _explained():
        factor = asyncio.run(mfa.set_up(settings.auth_database_url, subkeys, email, settings.jwt_issuer))
    cli.out.print("\n".join([factor.uri, *factor.recovery_codes]), markup=False, soft_wrap=True)


@app.command()
def create_admin(
    email: Annotated[str, typer.Option(help="The new admin's e-mail address")],
    fullname: Annotated[str, typer.Option(help="The new admin's name")] = "Administrator",
) -> None:
    """Make an admin account; its password is read from standard input."""
    settings = cli.settings(DatabaseSettings)
    password = sys.stdin.readline().rstrip("\r\n")
    try:
        admin = msgspec.convert({"email": email, "fullname": fullname, "password": password}, commands.NewAdmin)
    except msgspec.ValidationError as error:
        raise cli.failed(str(error)) from None
    with _explained():
        refuse_common(admin.password, admin.email)
        created = asyncio.run(commands.create_admin(settings.auth_database_url, admin))
    cli.out.print("created" if created else "exists already; its password was not changed", markup=False)


@app.command()
def verify_audit(head: audit_cli.KnownHead = None) -> None:
    """Compute the audit trail's chain anew; ends with 1 and the first broken link where it was tampered with."""
    url = cli.settings(DatabaseSettings).auth_database_url
    postgres.verify_audit(url, head)


@app.command()
def expire_audit(export: audit_cli.ExportFolder) -> None:
    """Export the audit entries that are older than AUDIT_RETENTION_MONTHS to a file, and remove them."""
    settings = cli.settings(MigrationSettings)
    postgres.expire_audit("auth", settings.auth_migration_database_url, settings.audit_retention_months, export)


@app.command()
def rotate_keys() -> None:
    """Add a signing key, and drop those whose tokens have all expired.

    The key signs five minutes later: by four, the file has to be in place for all replicas.
    """
    settings = cli.settings(KeySettings)
    with _explained():
        added, dropped = keys.rotate(Path(settings.auth_signing_keys_file))
    cli.out.print(f"added {added}, dropped {dropped}", markup=False)


@app.command()
def republish() -> None:
    """Announce every account's present state to the other services."""
    settings = cli.settings(DatabaseSettings)
    with _explained():
        count = asyncio.run(commands.republish(settings.auth_database_url))
    cli.out.print(f"announced: {count}", markup=False)
