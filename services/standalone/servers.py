"""The real PostgreSQL, Valkey and MongoDB of the platform's wheels, on loopback ports of one machine."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from services.standalone.kept import KeptSecrets
from services.standalone.mongod import Mongod
from services.standalone.postgres import Postgres
from services.standalone.process import Server, ServerError
from services.standalone.valkey import Valkey

_START_SECONDS = 120.0  # a database that was killed under load first repeats its log
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_PORTS_TRIED = 5


class Servers:
    """The embedded servers of one data folder; no other `Servers`, of this process or another, gets the same folder.

    They end with the thread that called `start`, should it end without `stop`: call it from the main thread. `durable`
    as False is for tests: fast, and a crash of the machine loses the data.
    """

    def __init__(
        self, directory: Path, *, durable: bool = True, postgres: bool = True, redis: bool = True, mongodb: bool = True
    ) -> None:
        self._directory = directory.absolute()
        self._durable = durable
        # PostgreSQL last: it makes its data folder at the first start, meanwhile the others are on their way.
        wanted: dict[type[Server], bool] = {Mongod: mongodb, Valkey: redis, Postgres: postgres}
        self._kinds = [kind for kind, is_wanted in wanted.items() if is_wanted]
        self._servers: dict[type[Server], Server] = {}
        self._lock: IO[str] | None = None
        self.kept = KeptSecrets(self._directory / "secrets.json")

    @property
    def postgres_url(self) -> str:
        """The superuser's."""
        return self._servers[Postgres].url

    @property
    def redis_url(self) -> str:
        """The administrator's."""
        return self._servers[Valkey].url

    def redis_url_of(self, service: str) -> str:
        return cast(Valkey, self._servers[Valkey]).url_of(service)

    @property
    def mongodb_url(self) -> str:
        """The administrator's."""
        return self._servers[Mongod].url

    @property
    def mongodb_application_url(self) -> str:
        return cast(Mongod, self._servers[Mongod]).application_url

    @property
    def pids(self) -> dict[str, int]:
        """The process of each running server: `postgres`, `valkey`, `mongodb`."""
        return {server.name: server.pid for server in self._servers.values() if server.pid is not None}

    def start(self) -> None:
        """Starts what does not run yet and returns when each server answers.

        After a server died, calling it again brings that one back on the same port.
        """
        if self._lock is None:
            self._lock = _exclusive(self._directory)
        if not self._servers:
            self._servers = {kind: kind(self._directory, self.kept, durable=self._durable) for kind in self._kinds}
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        starting = [server for server in self._servers.values() if server.pid is None]
        movable = [server for server in starting if server.port == 0]
        launches = dict.fromkeys(movable, 1)
        for server in starting:
            server.launch()
        deadline = time.monotonic() + _START_SECONDS
        while starting:
            for server in starting:
                if not server.died:
                    continue
                if launches.get(server, _PORTS_TRIED) == _PORTS_TRIED or not server.move_if_port_was_taken():
                    raise server.failure()
                launches[server] += 1
                server.launch()
            starting = [server for server in starting if not server.answers()]
            if starting and time.monotonic() > deadline:
                raise starting[0].failure()
            time.sleep(_POLL_SECONDS)

    def dead(self) -> list[str]:
        """The names of servers that ended by themselves."""
        return [server.name for server in self._servers.values() if server.died]

    def stop(self) -> None:
        """Stops all of them cleanly, by force after a while; harmless when nothing runs."""
        servers = list(self._servers.values())
        for server in servers:
            server.request_stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for server in servers:
            server.finish_stop(deadline)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exception_type: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _exclusive(directory: Path) -> IO[str]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (directory / "lock").open("a+")
    except OSError as error:
        raise ServerError(
            f"The data folder {directory} cannot be used ({error.strerror}): choose another, or change its owner."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise ServerError(
            f"The data folder {directory} is in use by process {holder}: stop that one, or choose another."
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock
