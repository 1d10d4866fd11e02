import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import TypeVar
from unicodedata import category, normalize

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from prometheus_client import CollectorRegistry, Gauge
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from services.kit.errors import BadRequest, FieldError, Unavailable

T = TypeVar("T")

MIN_LENGTH = 8
# OWASP's second choice of parameters for argon2id, about 40 ms of one core.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_WAIT_SECONDS = 2.5
# A container sees all cores of its node whatever its quota, and each hash takes 19 MiB.
_AT_ONCE = min(os.cpu_count() or 1, 4)
# The first guesses of attackers: the 30,000 most frequent passwords of published leaks, in lower case.
_COMMON = frozenset(FREQUENCY_LISTS["passwords"])


class Match(IntEnum):
    """`AS_TYPED`: by a hash of before passwords were prepared, which a login renews."""

    NO = 0
    YES = 1
    AS_TYPED = 2


class Passwords:
    """Hashes by argon2id off the event loop, as many at once as there are cores: more would only take memory.

    A login that waits too long gets a 503, so that a flood of logins is not also a growing queue.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, "passwords", initializer=_lower_priority)
        self._waiting = Gauge("password_hashes_waiting", "Password hashes waiting for a core", registry=registry)
        self._dummy_hash = _HASHER.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        return await self._on_a_core(_HASHER.hash, prepared(password))

    async def verify(self, password_hash: str | None, password: str) -> Match:
        """Tell whether the hash is the password's. Without a hash the answer is no, after the same time."""
        match = await self._on_a_core(_match, password_hash or self._dummy_hash, password)
        return match if password_hash is not None else Match.NO

    @staticmethod
    def is_outdated(password_hash: str) -> bool:
        """Tell whether the hash was made with other parameters than today's."""
        return _HASHER.check_needs_rehash(password_hash)

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


def _lower_priority() -> None:
    """Let the event loop's thread have a core at once: hashes would otherwise hold all of them for 40 ms each."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process'
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def refuse_common(password: str, email: str) -> None:
    """Raise `BadRequest` for a password that attackers guess first; no rule demands certain characters."""
    lowered = password.lower()
    if lowered in _COMMON:
        raise BadRequest(errors=[FieldError("password", "Too many people have this password")])
    if lowered in (email, email.partition("@")[0]):
        raise BadRequest(errors=[FieldError("password", "Expected something else than the e-mail address")])


def prepared(password: str) -> str:
    """Return the form in which a password is hashed: keyboards send the same letters and blanks in several.

    This is OpaqueString of RFC 8265 with NFKC in place of NFC, as NIST SP 800-63B has it, for input methods also differ
    in the width of letters; and without its refusals, because a password may consist of anything.
    """
    return normalize("NFKC", "".join(" " if category(letter) == "Zs" else letter for letter in password))


def new_password(password: str) -> str:
    """Return the prepared password; raise ValueError if that is too short."""
    if len(found := prepared(password)) < MIN_LENGTH:
        raise ValueError(f"Expected at least {MIN_LENGTH} characters")
    return found


def _match(password_hash: str, password: str) -> Match:
    if _matches(password_hash, form := prepared(password)):
        return Match.YES
    return Match.AS_TYPED if password != form and _matches(password_hash, password) else Match.NO


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
