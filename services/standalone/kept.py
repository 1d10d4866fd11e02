"""Passwords and keys that are generated with a data folder and must survive a restart."""

import json
import os
import secrets
from pathlib import Path

ADMIN_PASSWORD = "admin password"  # the name of the generated password of the local admin  # noqa: S105


class KeptSecrets:
    """Random strings by name, in a file that only its owner may read. The first look-up of a name generates one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> str:
        values = self._read()
        if name not in values:
            values[name] = secrets.token_hex(24)
            self._write(values)
        return values[name]

    def __contains__(self, name: str) -> bool:
        return name in self._read()

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
