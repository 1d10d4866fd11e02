"""Negative controls: the platform without one safeguard, under the row that the safeguard stands against.

A check that does not complain then would not complain about a real loss either.
"""

from typing import NamedTuple

from redis.asyncio import Redis

from tests.faults.platform import Commands, Platform, Prepare


class Control(NamedTuple):
    """`check` has to complain under the row of that name. `prepare` runs before the services start."""

    name: str
    row: str
    check: str
    commands: Commands = {}
    prepare: Prepare | None = None


def _patched(service: str, patch: str) -> Commands:
    return {service: ("tests.faults.patched", patch, f"services.{service}", "serve")}


async def _commit_asynchronously(platform: Platform) -> None:
    async with platform.servers.database("booking") as connection:
        await connection.execute("ALTER SYSTEM SET synchronous_commit = off")
        await connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        # Keep the WAL writer from flushing earlier than that, unless its buffers are full.
        await connection.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
        await connection.execute("SELECT pg_reload_conf()")


async def _drop_exclusions(platform: Platform) -> None:
    await platform.execute(
        "ALTER TABLE appointments DROP CONSTRAINT appointment_doctor_no_overlap, "
        "DROP CONSTRAINT appointment_patient_no_overlap"
    )


async def _drop_unique_index(platform: Platform) -> None:
    await platform.servers.mongodb_client["notification"]["notifications"].drop_index("notification_once")


async def _commit_late(platform: Platform) -> None:
    """Make some transactions commit later than transactions that began after them."""
    await platform.execute(
        """
        CREATE FUNCTION commit_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF random() < 0.2 THEN PERFORM pg_sleep(random() * 0.2); END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON appointments DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION commit_late();
        """
    )


async def _allow_every_channel(platform: Platform) -> None:
    """Let the services use channels outside their own names, to which their Redis users are limited."""
    async with Redis.from_url(platform.servers.redis.url) as redis:
        for service in ("booking", "notification"):
            await redis.acl_setuser(service, channels=["*"], enabled=True)


CONTROLS = (
    Control("synchronous_commit=off", "11", "C1", prepare=_commit_asynchronously),
    Control("no exclusion constraint, no locks", "15", "C2", _patched("booking", "unlocked"), _drop_exclusions),
    Control("ack before the write", "6", "C5", _patched("notification", "ack_first")),
    Control("no unique index of events", "5", "C5", _patched("notification", "not_unique"), _drop_unique_index),
    Control(
        "Pub/Sub alone",
        "6",
        "C5",
        {**_patched("booking", "pubsub"), **_patched("notification", "pubsub")},
        _allow_every_channel,
    ),
    Control("no rebuild of Redis", "8", "C5", _patched("booking", "no_rebuild")),
    Control("a watermark relay", "1", "C8", _patched("booking", "watermark"), _commit_late),
    Control("a bare INSERT", "15", "backstop", _patched("booking", "bare_insert")),
)
