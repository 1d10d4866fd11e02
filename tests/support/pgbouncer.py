"""A real PgBouncer in transaction mode, in front of the PostgreSQL of some URLs."""

import os
import pwd
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from services.kit import postgres_url
from services.standalone.kept import KeptSecrets
from services.standalone.process import HOST, Server
from tests.support.waiting import HANG_SECONDS

# Debian installs it where only root looks.
EXECUTABLE = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class PgBouncer(Server):
    """Its clients outnumber its connections: it has two for each role and database."""

    name = program = "pgbouncer"
    stop_signal = signal.SIGKILL  # it keeps nothing, and would wait for its clients

    def __init__(self, directory: Path, *urls: str) -> None:
        super().__init__(directory, KeptSecrets(directory / "secrets.json"), durable=False)
        self._targets = [postgres_url.parse(url) for url in urls]

    @classmethod
    @contextmanager
    def to(cls, directory: Path, *urls: str) -> Iterator[Self]:
        """Run PgBouncer for the roles in `urls`, which are of one server."""
        bouncer = cls(directory, *urls)
        bouncer.start()
        try:
            yield bouncer
        finally:
            bouncer.kill()

    def start(self) -> None:
        self.launch()
        deadline = time.monotonic() + HANG_SECONDS
        while not self.answers():
            if self.died or time.monotonic() > deadline:
                raise self.failure()
            time.sleep(0.02)

    def kill(self) -> None:
        self.request_stop()
        self.finish_stop(time.monotonic() + HANG_SECONDS)

    @property
    def url(self) -> str:
        return f"postgresql://{HOST}:{self.port}"

    def through(self, url: str) -> str:
        """Return a URL of the server as it is through PgBouncer."""
        target = postgres_url.parse(url)
        return f"postgresql://{target.user}:{target.password}@{HOST}:{self.port}/{target.database}"

    def answers(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), 1).close()
        except OSError:
            return False
        return True

    def _command(self) -> list[str]:
        assert EXECUTABLE is not None
        (address,) = {f"host={target.hosts[0]} port={target.ports[0]}" for target in self._targets}
        (self.folder / "users").write_text("".join(f'"{one.user}" "{one.password}"\n' for one in self._targets))
        lines = [
            "[databases]",
            f"* = {address}",
            "[pgbouncer]",
            f"listen_addr = {HOST}",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = scram-sha-256",
            "auth_file = users",
            "pool_mode = transaction",
            "default_pool_size = 2",
            "server_login_retry = 1",
        ]
        (self.folder / "pgbouncer.ini").write_text("\n".join([*lines, ""]))
        user, group = self._identity()
        for path in (self.folder, *self.folder.iterdir()):
            os.chown(path, user, group)
        return [EXECUTABLE, "pgbouncer.ini"]

    def _identity(self) -> tuple[int, int]:
        if os.geteuid() != 0:
            return super()._identity()
        nobody = pwd.getpwnam("nobody")  # PgBouncer refuses to run as root
        return nobody.pw_uid, nobody.pw_gid
