"""Embedded servers that fail to start, die, or are left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest

from services.standalone import servers as standalone_servers
from services.standalone.kept import KeptSecrets
from services.standalone.mongod import Mongod
from services.standalone.process import ServerError
from services.standalone.servers import Servers
from services.standalone.valkey import Valkey
from tests.standalone.embedded import note, noted, processes_in

# A platform that starts its servers, prints their pids and cannot stop them. "orphans" survive it, as all servers do on
# systems without a signal at the parent's death.
PLATFORM = """
import sys, time
from pathlib import Path
from services.standalone import process
from services.standalone.servers import Servers
launched = process.Server._launched
if sys.argv[2] == "orphans":
    process.Server._launched = lambda self, command, _: launched(self, command, 0)
servers = Servers(Path(sys.argv[1]))
servers.start()
print(*servers.pids.values(), flush=True)
time.sleep(60)
"""


def killed_platform(directory: Path, kind: str) -> list[psutil.Process]:
    """Run a platform in another process, kill it, and return the servers that it had started."""
    command = [sys.executable, "-c", PLATFORM, str(directory), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as platform:
        assert platform.stdout is not None
        servers = [psutil.Process(int(pid)) for pid in platform.stdout.readline().split()]
        assert len(servers) == 3
        platform.kill()
    return servers


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("echo no luck; exit 3", r"mongod ended with 3[\s\S]*no luck"),
        ("kill -ILL $$", "MongoDB needs AVX"),
        ("exec sleep 60", "mongod does not answer"),
    ],
)
def test_a_failed_start_is_explained_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, said: str
) -> None:
    monkeypatch.setattr(standalone_servers, "_START_SECONDS", 3.0)
    monkeypatch.setattr(Mongod, "_command", lambda _: ["/bin/sh", "-c", does])
    with pytest.raises(ServerError, match=said):
        Servers(tmp_path, durable=False, postgres=False).start()
    assert processes_in(tmp_path) == []


def test_a_server_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone_servers, "_STOP_SECONDS", 0.2)
    monkeypatch.setattr(Valkey, "stop_signal", signal.SIGCONT)
    servers = Servers(tmp_path, durable=False, postgres=False, mongodb=False)
    servers.start()
    servers.stop()
    assert processes_in(tmp_path) == []


async def test_servers_left_behind_by_a_killed_platform_are_replaced(
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
async def test_servers_end_with_a_killed_platform_that_restarts_at_once(
    tmp_path: Path, started: Callable[..., Servers]
) -> None:
    ended = killed_platform(tmp_path, "children")
    servers = started(tmp_path, durable=True)
    _, alive = psutil.wait_procs(ended, timeout=20)
    assert alive == []
    await note(servers, "after")


def test_a_dead_server_is_named_and_restarts_at_its_address(started: Callable[..., Servers]) -> None:
    servers = started(postgres=False, mongodb=False)
    url, pid = servers.redis_url, servers.pids["valkey"]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)], timeout=5)
    assert servers.dead() == ["valkey"]
    servers.start()
    assert servers.dead() == []
    assert servers.redis_url == url
    assert servers.pids["valkey"] != pid


async def test_postgres_restarts_after_its_main_process_was_killed(started: Callable[..., Servers]) -> None:
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


def test_an_interrupted_first_start_is_repeated(tmp_path: Path, started: Callable[..., Servers]) -> None:
    (tmp_path / "postgres.new" / "base").mkdir(parents=True)
    servers = started(tmp_path, redis=False, mongodb=False)
    assert servers.pids.keys() == {"postgres"}


def test_a_stale_pid_file_with_the_pid_of_another_program_does_not_prevent_the_start(
    tmp_path: Path, started: Callable[..., Servers]
) -> None:
    started(tmp_path, redis=False, mongodb=False).stop()
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}/postgres\n1\n5432\n\n\n\nready\n")
    assert started(tmp_path, redis=False, mongodb=False).pids.keys() == {"postgres"}


def test_data_without_its_passwords_is_refused(tmp_path: Path, started: Callable[..., Servers]) -> None:
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
