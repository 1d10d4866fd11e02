"""A database with an owner role for each service that keeps its data in PostgreSQL."""

from typing import NamedTuple

import asyncpg
from sqlalchemy import make_url

from services.standalone.kept import KeptSecrets

SERVICES = ("auth", "booking")


class DatabaseUrls(NamedTuple):
    """URLs of the owner, who migrates the database, and of the application's role."""

    migration: str
    application: str


def database_urls(superuser_url: str, kept: KeptSecrets, service: str, database: str) -> DatabaseUrls:
    def url(role: str) -> str:
        own = make_url(superuser_url).set(username=role, password=kept[role], database=database)
        return own.render_as_string(hide_password=False)

    return DatabaseUrls(migration=url(f"{service}_owner"), application=url(f"{service}_app"))


async def create_databases(superuser_url: str, kept: KeptSecrets) -> dict[str, DatabaseUrls]:
    """Create each service's owner and database if they are missing, and return their URLs by service.

    The service's `migrate` creates the application's role, with the password in its URL.
    """
    connection = await asyncpg.connect(superuser_url)
    try:
        await connection.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
        for service in SERVICES:
            await create_database(connection, kept, service, service)
    finally:
        await connection.close()
    return {service: database_urls(superuser_url, kept, service, service) for service in SERVICES}


async def create_database(connection: asyncpg.Connection, kept: KeptSecrets, service: str, database: str) -> None:
    owner = f"{service}_owner"
    verb = "ALTER" if await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", owner) else "CREATE"
    # A statement's parameter cannot be a role; the name is ours and the password is hexadecimal.
    await connection.execute(f"{verb} ROLE {owner} LOGIN CREATEROLE PASSWORD '{kept[owner]}'")
    if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", database):
        await connection.execute(f"CREATE DATABASE {database} OWNER {owner}")
        # Before the first migration, which repeats it for databases that were made elsewhere.
        await connection.execute(f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC")
