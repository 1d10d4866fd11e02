"""Revisions that change rows, on databases of earlier releases."""

import shutil
from pathlib import Path

import asyncpg

from services.auth.app import MIGRATIONS
from services.auth.users.addresses import canonical
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls
from tests.support.databases import ServerUrls
from tests.support.schema import empty_database

_INSERT = """
    INSERT INTO users (id, email, password_hash, role, status, fullname, time_zone, locale, version,
                       created_at, updated_at)
    VALUES (gen_random_uuid(), $1, 'x', 'PATIENT', 'ACTIVE', 'Bo', 'UTC', 'en', 1, now(), now())
"""


async def migrate_to(revision: str, urls: DatabaseUrls, folder: Path) -> None:
    for file in MIGRATIONS.glob("*.py"):
        if file.name[: len(revision)] <= revision:
            shutil.copy(file, folder)
    await migrate(folder, migration_url=urls.migration, application_url=urls.application)


async def test_addresses_of_earlier_releases_are_found_by_their_canonical_form(
    servers: ServerUrls, worker_id: str, tmp_path: Path
) -> None:
    urls = await empty_database(servers, "auth", f"auth_addresses_{worker_id}")
    await migrate_to("0006", urls, tmp_path)
    owner = await asyncpg.connect(urls.migration)
    typed = [
        "Bo@Example.com",
        "e\u0301.b@example.com",
        "\u0130.c@example.com",
        "plain@example.com",
        "t@xn--mnchen-3ya.example",
    ]
    for email in typed:
        await owner.execute(_INSERT, email)
        await owner.execute(
            "INSERT INTO mails (id, user_id, kind, email, expires_at)"
            " SELECT gen_random_uuid(), id, 'VERIFY_EMAIL', email, now() FROM users WHERE email = $1",
            email,
        )
    await migrate(MIGRATIONS, migration_url=urls.migration, application_url=urls.application)
    for email in typed:
        found = "SELECT count(*) FROM users JOIN mails ON user_id = users.id AND mails.email = users.email"
        assert await owner.fetchval(f"{found} WHERE users.email = $1", canonical(email)) == 1, email
    await owner.close()


async def test_an_earlier_release_still_writes_and_finds_its_form_of_an_address(
    servers: ServerUrls, worker_id: str
) -> None:
    """Earlier code runs beside the new schema during an upgrade."""
    urls = await empty_database(servers, "auth", f"auth_earlier_{worker_id}")
    await migrate(MIGRATIONS, migration_url=urls.migration, application_url=urls.application)
    owner = await asyncpg.connect(urls.migration)
    await owner.execute(_INSERT, "Bo@Example.com")
    await owner.execute("SET enable_seqscan = off")
    plan = await owner.fetch("EXPLAIN SELECT id FROM users WHERE lower(email) = lower('BO@example.com')")
    assert "users_email_unique" in str(plan)
    await owner.close()
