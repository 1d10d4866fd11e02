"""Instants at which a process can be made to die, to prove that nothing is lost there: the FAILPOINTS setting."""

import os
import random
import signal
from typing import Literal, get_args

from services.kit.settings import SettingsError

Failpoint = Literal[
    "committed",  # the transaction is committed, nobody has the answer yet
    "appended",  # the relay's entries are in the stream, their rows not marked as such
    "received",  # an event has arrived, nothing is written
    "handled",  # its effect is durable, the entry not acknowledged
    "accepted",  # the mail server has taken a message, which is not marked as sent
]

_chances: dict[str, float] = {}


def arm(chances: str, environment: str) -> None:
    """`chances` such as `committed=0.05,handled=1`: how likely the process is to die each time it passes.

    Raises `SettingsError`, and for any in production.
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


def passing(failpoint: Failpoint) -> None:
    """Dies as if by `kill -9`, where it is armed and chance has it so."""
    if _chances and random.random() < _chances.get(failpoint, 0.0):  # noqa: S311
        os.kill(os.getpid(), signal.SIGKILL)
