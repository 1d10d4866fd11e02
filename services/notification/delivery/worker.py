"""The worker that takes due deliveries to their channel, with any number of replicas beside it.

A delivery that fails is tried again after 10 s, twice as long each time up to an hour, thirty times in all: for about
21 hours. Then it is FAILED, a dead letter that an admin may replay; one that is refused for good is so at once.

A mail with a secret in it is urgent: its pauses go up to ten minutes only. As soon as auth has told when the secret
expires, the attempts end with that, however many they were, as SKIPPED: there is nothing to mend.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from time import monotonic

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.kit.errors import Unavailable
from services.kit.failpoints import failpoint
from services.kit.log import request_id, traceparent
from services.kit.tasks import pause
from services.notification.delivery.email.composer import Correspondence
from services.notification.delivery.email.sender import Deferred, Failure, Mailer, Void
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.schemas import Claim, Reason
from services.notification.inbox.schemas import Channel

log = structlog.get_logger("delivery")

_AT_ONCE = 8
_ATTEMPTS = 30
_FIRST_DELAY_SECONDS = 10.0
_LAST_DELAY_SECONDS = 3600.0
_LAST_URGENT_DELAY_SECONDS = 600.0
# Half of a lease is for the look-ups before the send, which is not begun later than that, and the rest for the mark.
_LEASE_PER_SEND = 4
_POLL_SECONDS = 1.0
_RETRY_SECONDS = 0.25
_SETTLING_SECONDS = 3.0
_GRACE_SECONDS = 8.0
_MEASURE_SECONDS = 15.0


class DeliveryMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.deliveries = Counter(
            "notification_deliveries_total",
            "Deliveries that ended as sent, failed or skipped, and those whose lease was lost before that was marked",
            ["channel", "outcome"],
            registry=registry,
        )
        self.retries = Counter(
            "notification_delivery_retries_total", "Attempts put off", ["channel", "reason"], registry=registry
        )
        self.due = Gauge("notification_deliveries_due", "Deliveries due, to 10,000", ["channel"], registry=registry)
        self.oldest = Gauge(
            "notification_deliveries_oldest_age_seconds",
            "Age of the oldest delivery that is neither sent nor failed",
            ["channel"],
            registry=registry,
        )


class EmailWorker:
    def __init__(
        self,
        deliveries: DeliveryRepository,
        correspondence: Correspondence,
        mailer: Mailer,
        metrics: DeliveryMetrics,
        *,
        send_seconds: float,
    ) -> None:
        self._deliveries, self._correspondence, self._mailer = deliveries, correspondence, mailer
        self._metrics, self._send_seconds = metrics, send_seconds
        self._woken = asyncio.Event()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._measure_at = float("-inf")

    def wake(self) -> None:
        """Look at once: there may be something due."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        self._stop = stop
        try:
            while not stop.is_set():
                self._woken.clear()
                try:
                    await self._turn()
                except Unavailable:
                    await self._wait_for_database()
                else:
                    await pause(self._woken, _POLL_SECONDS * random.uniform(0.7, 1.0))  # noqa: S311
        finally:
            await self._drain()

    async def _turn(self) -> None:
        if monotonic() >= self._measure_at:
            self._measure_at = monotonic() + _MEASURE_SECONDS
            await self._measure()
        while not self._stop.is_set():
            if len(self._in_flight) >= _AT_ONCE:
                await asyncio.wait(self._in_flight, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                continue
            # The lease ends later than this by what the claim's answer takes.
            lease_ends = monotonic() + _LEASE_PER_SEND * self._send_seconds
            claim = await self._deliveries.claim(Channel.EMAIL, _LEASE_PER_SEND * self._send_seconds)
            if claim is None:
                break
            task = asyncio.create_task(self._deliver(claim, lease_ends), name=str(claim.id))
            self._in_flight.add(task)
            task.add_done_callback(self._ended)
        if not self._in_flight:
            await self._mailer.hang_up()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery is left to its lease", delivery=task.get_name(), exc_info=error)

    async def _measure(self) -> None:
        due, oldest_seconds = await self._deliveries.count_due(Channel.EMAIL)
        self._metrics.due.labels(Channel.EMAIL).set(due)
        self._metrics.oldest.labels(Channel.EMAIL).set(oldest_seconds)

    async def _wait_for_database(self) -> None:
        """Leases ran out while it was away. Whoever has sent meanwhile marks that first, before others claim it."""
        log.warning("deliveries wait for the database")
        while not self._stop.is_set():
            try:
                await self._measure()
            except Unavailable:
                await pause(self._stop, _RETRY_SECONDS)
            else:
                await pause(self._stop, _SETTLING_SECONDS)
                return

    async def _deliver(self, claim: Claim, lease_ends: float) -> None:
        request_id.set(claim.request_id)
        traceparent.set(claim.traceparent)
        try:
            mail = await self._correspondence.write(claim)
            if (expires_at := mail.secret_expires_at) is not None and claim.expires_at is None:
                addressed = partial(self._deliveries.address, claim, mail.recipient_id, expires_at)
                if not await self._settle(claim, addressed):
                    return
                claim = msgspec.structs.replace(claim, expires_at=expires_at)
            if self._stop.is_set() or monotonic() > lease_ends - 2 * self._send_seconds:
                await self._settle(claim, lambda: self._deliveries.release(claim))
                return
            await self._mailer.send(mail)
        except Failure as failure:
            await self._failed(claim, failure)
        except Exception as error:
            # Not its traceback, which may show an address.
            log.error("delivery met a bug", delivery=str(claim.id), error=type(error).__name__)
            await self._failed(claim, Deferred(Reason.INTERNAL_ERROR, type(error).__name__))
        else:
            failpoint("accepted")
            await self._settle(claim, lambda: self._deliveries.mark_sent(claim, mail.message), "sent")

    async def _failed(self, claim: Claim, failure: Failure) -> None:
        seconds = delay_seconds(claim.attempts, urgent=claim.is_urgent)
        failure = _or_expired(claim, failure, seconds)
        reason, error = failure.reason, failure.error
        said = {"delivery": str(claim.id), "attempts": claim.attempts, "reason": reason.value}
        if isinstance(failure, Void):
            log.warning("delivery skipped", **said)
            await self._settle(claim, lambda: self._deliveries.skip(claim, reason, error), "skipped")
        elif isinstance(failure, Deferred) and (claim.attempts < _ATTEMPTS or claim.expires_at is not None):
            log.warning("delivery put off", **said)
            self._metrics.retries.labels(Channel.EMAIL, reason.value).inc()
            await self._settle(claim, lambda: self._deliveries.put_off(claim, seconds, reason, error))
        else:
            log.warning("delivery failed", **said)
            await self._settle(claim, lambda: self._deliveries.fail(claim, reason, error), "failed")

    async def _settle(self, claim: Claim, change: Callable[[], Awaitable[bool]], outcome: str | None = None) -> bool:
        """However long the database is away: what has left must be known as such, or it leaves again.

        Whether the claim still stood.
        """
        while True:
            try:
                held = await change()
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if not held:
                log.warning("delivery's lease was lost", delivery=str(claim.id))
            if outcome or not held:
                self._metrics.deliveries.labels(Channel.EMAIL, outcome if held else "lost").inc()
            return held

    async def _drain(self) -> None:
        """What is being sent may finish. What cannot in time leaves its claim to run out."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=_GRACE_SECONDS)
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        await self._mailer.hang_up()


def _or_expired(claim: Claim, failure: Failure, seconds: float) -> Failure:
    """What becomes of a claim that could be tried again after `seconds`, were its secret still good by then."""
    if not isinstance(failure, Deferred) or claim.expires_at is None:
        return failure
    if claim.claimed_at + timedelta(seconds=seconds) < claim.expires_at:
        return failure
    return Void(Reason.EXPIRED, f"It expires before another attempt. The last one: {failure.reason}, {failure.error}")


def delay_seconds(attempts: int, *, urgent: bool = False) -> float:
    """After so many failed attempts; spread, so that what failed together is not tried together."""
    longest = _LAST_URGENT_DELAY_SECONDS if urgent else _LAST_DELAY_SECONDS
    delay: float = min(longest, _FIRST_DELAY_SECONDS * 2.0 ** min(attempts - 1, 10))
    return delay * random.uniform(0.75, 1.25)  # noqa: S311
