"""A role that owns and a database for each service that keeps its data in PostgreSQL."""

from dataclasses import dataclass

import asyncpg
from sqlalchemy import make_url

from services.standalone.kept import KeptSecrets

SERVICES = ("auth", "booking")


@dataclass(frozen=True)
class DatabaseUrls:
    """How a service migrates its database, and how it uses it."""

    migration: str
    application: str


def database_urls(superuser_url: str, kept: KeptSecrets, service: str, database: str) -> DatabaseUrls:
    def url(role: str) -> str:
        own = make_url(superuser_url).set(username=role, password=kept[role], database=database)
        return own.render_as_string(hide_password=False)

    return DatabaseUrls(migration=url(f"{service}_owner"), application=url(f"{service}_app"))


async def create_databases(superuser_url: str, kept: KeptSecrets) -> dict[str, DatabaseUrls]:
    """Makes what is missing of each service's owner and database; gives their URLs by service.

    The application's role is only named here: the service's `migrate` makes it, with the password of its URL.
    """
    connection = await asyncpg.connect(superuser_url)
    try:
        for service in SERVICES:
            await create_database(connection, kept, service, service)
    finally:
        await connection.close()
    return {service: database_urls(superuser_url, kept, service, service) for service in SERVICES}


async def create_database(connection: asyncpg.Connection, kept: KeptSecrets, service: str, database: str) -> None:
    owner = f"{service}_owner"
    verb = "ALTER" if await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", owner) else "CREATE"
    # The password is hexadecimal and the names are the project's own: a role cannot be a statement's parameter.
    await connection.execute(f"{verb} ROLE {owner} LOGIN CREATEROLE PASSWORD '{kept[owner]}'")
    if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", database):
        await connection.execute(f"CREATE DATABASE {database} OWNER {owner}")
