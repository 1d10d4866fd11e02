"""Longer limits for tests that are about something else."""

import pytest

from services.kit.postgres import database, pool


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the limits on connections and statements, which a busy machine may exceed without an outage."""
    monkeypatch.setattr(pool, "_ACQUIRE_SECONDS", 30.0)
    monkeypatch.setattr(database, "_COMMAND_SECONDS", 30.0)
    monkeypatch.setattr(database, "_TRANSACTION_SECONDS", 60.0)
