"""The worker sends the due deliveries of one channel; any number of replicas have one.

A delivery that fails is attempted again after about 10 s, then twice as long each time up to about an hour, thirty
times in all, over about 21 hours. Then it is FAILED, a dead letter that an admin may replay. A refusal makes it FAILED
at once.

A message with a secret is urgent: its pauses are ten minutes at most. Once auth has said when the secret expires, the
attempts end then, however many there were, as SKIPPED: a replay could not help.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Generic

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.kit import tracing
from services.kit.errors import Unavailable
from services.kit.failpoints import failpoint
from services.kit.log import request_id, traceparent
from services.kit.tasks import backoff, pause
from services.notification.delivery.outcomes import Deferred, Failure, Obsolete, Reason
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.schemas import Claim
from services.notification.delivery.sender import M, Sender

log = structlog.get_logger("delivery")

_DESTINATION = "deliveries"
_AT_ONCE = 8
_ATTEMPTS = 30
# `backoff` waits for three quarters of these on average.
_FIRST_DELAY_SECONDS = 13.0
_LAST_DELAY_SECONDS = 4800.0
_LAST_URGENT_DELAY_SECONDS = 750.0
# A send begins in the first half of a lease, in which names are looked up; the rest is for the send and its mark.
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
            "Deliveries sent, failed or skipped, and those whose lease was lost before that was marked",
            ["channel", "outcome"],
            registry=registry,
        )
        self.retries = Counter(
            "notification_delivery_retries_total", "Attempts put off", ["channel", "reason"], registry=registry
        )
        self.due = Gauge("notification_deliveries_due", "Deliveries due, up to 10,000", ["channel"], registry=registry)
        self.oldest = Gauge(
            "notification_deliveries_oldest_age_seconds",
            "Age of the oldest delivery that is neither sent nor failed",
            ["channel"],
            registry=registry,
        )


class DeliveryWorker(Generic[M]):
    def __init__(
        self, deliveries: DeliveryRepository, sender: Sender[M], metrics: DeliveryMetrics, *, send_seconds: float
    ) -> None:
        self._deliveries, self._sender, self._channel = deliveries, sender, sender.channel
        self._metrics, self._send_seconds = metrics, send_seconds
        self._woken = asyncio.Event()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._measure_at = float("-inf")

    def wake(self) -> None:
        """Look at once for deliveries that are due."""
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
            # The lease ends later than this, by the time that the claim's answer takes.
            lease_ends = monotonic() + _LEASE_PER_SEND * self._send_seconds
            claim = await self._deliveries.claim(self._channel, _LEASE_PER_SEND * self._send_seconds)
            if claim is None:
                break
            task = asyncio.create_task(self._deliver(claim, lease_ends), name=str(claim.id))
            self._in_flight.add(task)
            task.add_done_callback(self._ended)
        if not self._in_flight:
            await self._sender.hang_up()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery is left to its lease", delivery=task.get_name(), exc_info=error)

    async def _measure(self) -> None:
        due, oldest_seconds = await self._deliveries.count_due(self._channel)
        self._metrics.due.labels(self._channel).set(due)
        self._metrics.oldest.labels(self._channel).set(oldest_seconds)

    async def _wait_for_database(self) -> None:
        """Wait until it answers, and then a little longer, because leases have run out during the outage.

        A worker that sent a message before it must have time to mark it, or another would claim and send it again.
        """
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
        with tracing.message("process", "mongodb", _DESTINATION, claim.id, claim.traceparent):
            await self._attempt(claim, lease_ends)

    async def _attempt(self, claim: Claim, lease_ends: float) -> None:
        try:
            message = await self._sender.compose(claim)
            if (expires_at := message.secret_expires_at) is not None and claim.expires_at is None:
                addressed = partial(self._deliveries.address, claim, message.recipient_id, expires_at)
                if not await self._settle(claim, addressed):
                    return
                claim = msgspec.structs.replace(claim, expires_at=expires_at)
            if self._stop.is_set() or monotonic() > lease_ends - 2 * self._send_seconds:
                await self._settle(claim, lambda: self._deliveries.release(claim))
                return
            with tracing.child_of(traceparent.get(), "CLIENT", f"send {self._channel.lower()}", {}):
                await self._sender.send(message)
        except Failure as failure:
            await self._failed(claim, failure)
        except Exception as error:
            # Without the traceback, which may contain an address.
            log.error("delivery met a bug", delivery=str(claim.id), error=type(error).__name__)
            await self._failed(claim, Deferred(Reason.INTERNAL_ERROR, type(error).__name__))
        else:
            failpoint("accepted")
            await self._settle(claim, lambda: self._deliveries.mark_sent(claim), "sent")

    async def _failed(self, claim: Claim, failure: Failure) -> None:
        seconds = delay_seconds(claim.attempts, urgent=claim.is_urgent)
        failure = _or_expired(claim, failure, seconds)
        reason, error = failure.reason, failure.error
        said = {"delivery": str(claim.id), "attempts": claim.attempts, "reason": reason.value}
        if isinstance(failure, Obsolete):
            log.warning("delivery skipped", **said)
            await self._settle(claim, lambda: self._deliveries.skip(claim, reason, error), "skipped")
        elif isinstance(failure, Deferred) and (claim.attempts < _ATTEMPTS or claim.expires_at is not None):
            log.warning("delivery put off", **said)
            self._metrics.retries.labels(self._channel, reason.value).inc()
            await self._settle(claim, lambda: self._deliveries.put_off(claim, seconds, reason, error))
        else:
            log.warning("delivery failed", **said)
            await self._settle(claim, lambda: self._deliveries.fail(claim, reason, error), "failed")

    async def _settle(self, claim: Claim, change: Callable[[], Awaitable[bool]], outcome: str | None = None) -> bool:
        """Repeat `change` for as long as the database is away: a sent message that is not marked would leave again.

        Return whether the claim was still valid.
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
                self._metrics.deliveries.labels(self._channel, outcome if held else "lost").inc()
            return held

    async def _drain(self) -> None:
        """Wait a few seconds for sends to finish. The claims of those that do not finish expire."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=_GRACE_SECONDS)
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        await self._sender.hang_up()


def _or_expired(claim: Claim, failure: Failure, seconds: float) -> Failure:
    """Make a failure final when the secret expires before another attempt in `seconds`."""
    if not isinstance(failure, Deferred) or claim.expires_at is None:
        return failure
    if claim.claimed_at + timedelta(seconds=seconds) < claim.expires_at:
        return failure
    last = f"{failure.reason}, {failure.error}"
    return Obsolete(Reason.EXPIRED, f"It expires before another attempt. The last one: {last}")


def delay_seconds(attempts: int, *, urgent: bool = False) -> float:
    """Return the pause after so many failed attempts."""
    return backoff(attempts, _FIRST_DELAY_SECONDS, _LAST_URGENT_DELAY_SECONDS if urgent else _LAST_DELAY_SECONDS)
