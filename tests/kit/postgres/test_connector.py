"""Connections to one of several servers, and by URLs as hosting services print them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from asyncpg.exceptions import TargetServerAttributeNotMatched

from services.kit.postgres.connector import Connector
from services.kit.postgres.engine import async_engine
from tests.kit.postgres.databases import opened
from tests.kit.postgres.relaying import published, relay_of
from tests.support.certificates import server_certificate
from tests.support.databases import ServerUrls
from tests.support.proxy import Proxy
from tests.support.store import Store
from tests.support.waiting import eventually, running, without_hang

# What Neon, Supabase, Aiven, Azure and others print.
_PRINTED = (
    "sslmode=prefer&channel_binding=require&connect_timeout=30&keepalives=1&keepalives_idle=30&gssencmode=disable"
    "&application_name=clinic&options=-c%20search_path%3Dpublic&target_session_attrs=read-write&pgbouncer=true"
)


@asynccontextmanager
async def standby(server: str, name: str) -> AsyncIterator[str]:
    """Yield the URL of a database that takes writes as little as a standby."""
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    yield f"{server.rpartition('/')[0]}/{name}"
    await connection.execute(f"DROP DATABASE {name}")
    await connection.close()


def _address(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _with_hosts(url: str, *hosts: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{','.join(hosts)}").geturl()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
async def test_pool_engine_and_relay_take_what_hosting_services_print(store: Store, scheme: str) -> None:
    address = _address(store.database_url)
    url = f"{_with_hosts(store.database_url, address, address)}?{_PRINTED}".replace("postgresql", scheme, 1)
    async with opened(url, connections=1) as database, database.connection() as connection:
        assert await connection.fetchval("SELECT current_setting('application_name')") == "clinic"
        assert await connection.fetchval("SELECT current_setting('search_path')") == "public"
    engine = async_engine(url)
    async with engine.begin() as connection:
        found = await connection.exec_driver_sql("SELECT current_setting('application_name')")
        assert found.scalar_one() == "clinic"
    await engine.dispose()
    async with running(relay_of(store, database_url=url).run):
        await store.write(2)
        await published(store)


async def test_the_server_that_takes_writes_is_found(servers: ServerUrls) -> None:
    # One server is asked for by two names, of which only one leads anywhere.
    address = _address(servers.postgres)
    async with Proxy.to(servers.postgres) as dead:
        dead.cut()
        for hosts in ((_address(dead.url), address), (address, _address(dead.url))):
            url = _with_hosts(servers.postgres, *hosts)
            for wanted in ("any", "primary", "read-write"):
                connection = await Connector(f"{url}?target_session_attrs={wanted}").connect()
                assert await connection.fetchval("SELECT 1") == 1
                await connection.close()
            with pytest.raises(TargetServerAttributeNotMatched):
                await Connector(f"{_with_hosts(url, address, address)}?target_session_attrs=standby").connect()


async def test_a_server_that_takes_no_writes_is_not_used(servers: ServerUrls, worker_id: str) -> None:
    async with standby(servers.postgres, f"standby_{worker_id}") as url:
        await (await Connector(f"{url}?target_session_attrs=any").connect()).close()
        with pytest.raises(TargetServerAttributeNotMatched):
            await Connector(f"{url}?target_session_attrs=read-write").connect()


async def test_after_a_host_that_does_not_answer_the_next_one_is_tried_first(servers: ServerUrls) -> None:
    async with Proxy.to(servers.postgres) as silent:
        silent.hold_replies()
        connector = Connector(_with_hosts(servers.postgres, _address(silent.url), _address(servers.postgres)))
        with pytest.raises(TimeoutError):
            await connector.connect(timeout=0.1)
        async with without_hang():
            connection = await connector.connect(timeout=None)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


async def test_attempts_that_fail_together_move_on_by_one_host(servers: ServerUrls) -> None:
    async with Proxy.to(servers.postgres) as silent:
        silent.hold_replies()
        connector = Connector(_with_hosts(servers.postgres, _address(silent.url), _address(servers.postgres)))
        failed = await asyncio.gather(*(connector.connect(timeout=0.1) for _ in range(2)), return_exceptions=True)
        assert [type(one) for one in failed] == [TimeoutError] * 2
        async with without_hang():
            await (await connector.connect(timeout=None)).close()


async def test_the_url_limits_the_time_to_open_a_connection_where_nothing_else_does(servers: ServerUrls) -> None:
    async with Proxy.to(servers.postgres) as silent:
        silent.hold_replies()
        async with without_hang():
            with pytest.raises(TimeoutError):
                await Connector(f"{silent.url}?connect_timeout=1").connect()


async def test_a_connection_that_fails_before_it_is_known_is_ended(
    servers: ServerUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = []

    async def fail(self: asyncpg.Connection, *_: object) -> None:
        connections.append(self)
        raise ConnectionResetError

    with monkeypatch.context() as failing:
        failing.setattr(asyncpg.Connection, "execute", fail)
        with pytest.raises(ConnectionResetError):
            await Connector(servers.postgres).connect()
    assert connections[0].is_closed()


async def test_the_authorities_of_the_system_are_asked_for_by_name(
    servers: ServerUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = server_certificate(tmp_path)
    async with Proxy.to(servers.postgres, tls) as proxy:
        url = f"{proxy.url}?sslmode=verify-full&sslrootcert=system"

        async def is_refused() -> bool:
            try:
                await Connector(url).connect()
            except OSError:
                return True
            return False

        await eventually(is_refused)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        connection = await Connector(url).connect()
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
