"""Passwords and keys that are generated with a data folder and must survive a restart."""

import json
import os
import secrets
from pathlib import Path

ADMIN_EMAIL = "admin email"
ADMIN_PASSWORD = "admin password"  # the name of the local admin's password  # noqa: S105


class KeptSecrets:
    """Secrets by name, in a file that only its owner may read. The first look-up of a name generates a random one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> str:
        if (kept := self.get(name)) is None:
            kept = self[name] = secrets.token_hex(24)
        return kept

    def __setitem__(self, name: str, value: str) -> None:
        self._write(self._read() | {name: value})

    def get(self, name: str) -> str | None:
        """Look up without generating."""
        return self._read().get(name)

    def _read(self) -> dict[str, str]:
        values: dict[str, str] = json.loads(self._path.read_text()) if self._path.exists() else {}
        return values

    def _write(self, values: dict[str, str]) -> None:
        # Synced before its first use: a crash must not lose the password of a database that was just created.
        draft = self._path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(values, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
