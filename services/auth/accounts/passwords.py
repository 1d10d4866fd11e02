import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from prometheus_client import CollectorRegistry, Gauge
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from services.kit.errors import BadRequest, FieldError, Unavailable

T = TypeVar("T")

# OWASP's second choice of parameters for argon2id, about 40 ms of one core.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_WAIT_SECONDS = 2.5
# A container sees all cores of its node whatever its quota, and each hash takes 19 MiB.
_AT_ONCE = min(os.cpu_count() or 1, 4)
# What attackers try first: the 30,000 most frequent passwords of published leaks, in lower case.
_COMMON = frozenset(FREQUENCY_LISTS["passwords"])


class Passwords:
    """argon2id off the event loop, a few hashes at a time: more than there are cores would only take memory.

    Who waits too long is told to come back, so that a flood of logins is not also a growing queue.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, "passwords", initializer=_give_way)
        self._waiting = Gauge("password_hashes_waiting", "Password hashes waiting for a core", registry=registry)
        self._nobodys = _HASHER.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        return await self._on_a_core(_HASHER.hash, password)

    async def verify(self, known: str | None, password: str) -> bool:
        """Whether `known` is the hash of `password`; without one the answer is no, and takes as long."""
        return await self._on_a_core(_matches, known or self._nobodys, password) and known is not None

    @staticmethod
    def is_outdated(known: str) -> bool:
        """Made with other parameters than today's."""
        return _HASHER.check_needs_rehash(known)

    async def _on_a_core(self, work: Callable[..., T], *arguments: str) -> T:
        with self._waiting.track_inprogress():
            try:
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._free.acquire()
            except TimeoutError:
                raise Unavailable("Too many people are signing in at this moment") from None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._free.release()


def _give_way() -> None:
    """The event loop's thread has a core as soon as it wants one: hashes would take all there are for 40 ms each."""
    if sys.platform == "linux":  # elsewhere it is all of the process that becomes nicer
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def refuse_common(password: str, email: str) -> None:
    """No rule says which characters a password has; one that is guessed first is refused."""
    lowered = password.lower()
    if lowered in _COMMON:
        raise BadRequest(errors=[FieldError("password", "Too many people have this password")])
    if lowered in (email, email.partition("@")[0]):
        raise BadRequest(errors=[FieldError("password", "Expected something else than the e-mail address")])


def _matches(known: str, password: str) -> bool:
    try:
        return _HASHER.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False
