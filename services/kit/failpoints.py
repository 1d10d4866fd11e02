"""Points in the code where a test makes the process kill itself, to prove that nothing is lost there."""

import os
import random
import signal
from typing import Literal, get_args

from services.kit.settings import SettingsError

Failpoint = Literal[
    "committed",  # the transaction is committed, but the client has no answer yet
    "appended",  # the relay's entries are in the stream, but their rows are not marked as published
    "received",  # an event has arrived, but nothing is written
    "handled",  # an event's effect is durable, but its entry is not acknowledged
    "accepted",  # the mail server has accepted a message, but it is not marked as sent
]

_chances: dict[str, float] = {}


def arm(chances: str, environment: str) -> None:
    """Set how likely the process dies at each failpoint, from the FAILPOINTS setting: `committed=0.05,handled=1`.

    Raises `SettingsError` for an unknown name, and for any in production.
    """
    _chances.clear()
    if not chances:
        return
    if environment == "production":
        raise SettingsError("FAILPOINTS is for tests: it is refused where ENVIRONMENT is production")
    for part in chances.split(","):
        name, _, chance = part.partition("=")
        if name not in get_args(Failpoint):
            raise SettingsError(f"FAILPOINTS is malformed: expected names among {', '.join(get_args(Failpoint))}")
        _chances[name] = float(chance)


def failpoint(name: Failpoint) -> None:
    """Kill the process as `kill -9` does, with the chance that `arm` has set for this point."""
    if _chances and random.random() < _chances.get(name, 0.0):  # noqa: S311
        os.kill(os.getpid(), signal.SIGKILL)
