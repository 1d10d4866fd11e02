"""The real PostgreSQL, Valkey and MongoDB from the platform's wheels, on loopback ports of one machine."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO, Self

from services.standalone.kept import KeptSecrets
from services.standalone.mongod import Mongod
from services.standalone.postgres import Postgres
from services.standalone.process import Server, ServerError
from services.standalone.valkey import Valkey

_START_SECONDS = 120.0  # a database that was killed under load first replays its log
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_PORTS_TRIED = 5


class Servers:
    """The embedded servers of one data folder, which it locks against other `Servers` of any process.

    Call `start` from the main thread: the servers end when the thread that started them ends. With `durable=False`, for
    tests, they are faster but lose their data when the machine crashes.
    """

    def __init__(
        self, directory: Path, *, durable: bool = True, postgres: bool = True, redis: bool = True, mongodb: bool = True
    ) -> None:
        self._directory = directory = directory.absolute()
        self.kept = kept = KeptSecrets(directory / "secrets.json")
        self._mongodb = Mongod(directory, kept, durable=durable)
        self._valkey = Valkey(directory, kept, durable=durable)
        self._postgres = Postgres(directory, kept, durable=durable)
        # PostgreSQL last: the first start creates its data folder while the others are already starting.
        wanted = {self._mongodb: mongodb, self._valkey: redis, self._postgres: postgres}
        self._servers: list[Server] = [server for server, is_wanted in wanted.items() if is_wanted]
        self._lock: IO[str] | None = None

    @property
    def postgres_url(self) -> str:
        """The superuser's URL."""
        return self._postgres.url

    @property
    def redis_url(self) -> str:
        """The administrator's URL."""
        return self._valkey.url

    def redis_url_of(self, service: str) -> str:
        return self._valkey.url_of(service)

    @property
    def mongodb_url(self) -> str:
        """The administrator's URL."""
        return self._mongodb.url

    @property
    def mongodb_application_url(self) -> str:
        return self._mongodb.application_url

    @property
    def pids(self) -> dict[str, int]:
        """The process of each running server: `postgres`, `valkey`, `mongodb`."""
        return {server.name: server.pid for server in self._servers if server.pid is not None}

    def start(self) -> None:
        """Start every server that does not run, a dead one on its previous port, and return when all answer."""
        if self._lock is None:
            self._lock = _locked(self._directory)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        starting = [server for server in self._servers if server.pid is None]
        launches = {server: 1 for server in starting if server.port == 0}
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
        """Return the names of the servers that died."""
        return [server.name for server in self._servers if server.died]

    def stop(self) -> None:
        """Stop all servers cleanly, and kill those that take too long. Without a running server it does nothing."""
        for server in self._servers:
            server.request_stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for server in self._servers:
            server.finish_stop(deadline)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _locked(directory: Path) -> IO[str]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (directory / "lock").open("a+")
    except OSError as error:
        message = f"The data folder {directory} cannot be used ({error.strerror}): choose another or change its owner."
        raise ServerError(message) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        message = f"The data folder {directory} is in use by process {holder}: stop that process or choose another."
        raise ServerError(message) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock
