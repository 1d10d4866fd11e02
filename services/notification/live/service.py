import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import time
from uuid import UUID

from services.contracts.enums import Role
from services.kit.auth import InvalidToken, Principal
from services.kit.errors import Forbidden, NotFound
from services.notification.directory.callers import Callers
from services.notification.errors import InvalidTicket, TooManyStreams
from services.notification.inbox.repository import InboxRepository
from services.notification.live.repository import OpenStreamRepository, TicketRepository
from services.notification.live.schemas import StreamTicket
from services.notification.live.stream import LiveMetrics, LiveStream
from services.notification.live.subscriptions import Subscription, Subscriptions

STREAMS_PER_USER = 5
TICKET_SECONDS = 30
LEASE_SECONDS = 45


class LiveService:
    """Open streams for callers that may have one."""

    def __init__(
        self,
        callers: Callers,
        inbox: InboxRepository,
        tickets: TicketRepository,
        leases: OpenStreamRepository,
        subscriptions: Subscriptions,
        metrics: LiveMetrics,
        draining: asyncio.Event,
    ) -> None:
        self._callers, self._inbox = callers, inbox
        self._tickets, self._leases, self._subscriptions = tickets, leases, subscriptions
        self._metrics, self.draining = metrics, draining

    async def make_ticket(self, caller: Principal, user_id: UUID) -> StreamTicket:
        _check_owner(caller, user_id)
        await self._callers.check(caller)
        seconds = min(TICKET_SECONDS, int(caller.expires_at - time()))
        if seconds < 1:
            raise InvalidToken
        expires_at = datetime.fromtimestamp(int(time()) + seconds, UTC)
        return StreamTicket(ticket=await self._tickets.add(caller, seconds), expires_at=expires_at)

    async def redeem(self, ticket: str, user_id: UUID) -> Principal:
        caller = await self._tickets.take(ticket)
        if caller is None or caller.id != user_id or caller.expires_at <= time():
            raise InvalidTicket
        return caller

    @asynccontextmanager
    async def open(self, caller: Principal, user_id: UUID, last_seen: UUID | None) -> AsyncIterator[LiveStream]:
        """Subscribe before reading MongoDB, so that nothing is missed in between."""
        _check_owner(caller, user_id)
        if caller.expires_at <= time():
            raise InvalidToken  # expired, though within the leeway of other requests
        if len(self._subscriptions.of(user_id)) >= STREAMS_PER_USER:
            raise TooManyStreams
        subscription = Subscription(user_id)
        self._subscriptions.add(subscription)
        try:
            await self._callers.check(caller)
            await self._count(subscription)
            stream = LiveStream(caller, subscription, self._callers, self._inbox, self._metrics)
            await stream.begin(last_seen)
            try:
                yield stream
            finally:
                self._metrics.ended.labels(stream.ended_by).inc()
        finally:
            self._subscriptions.remove(subscription)
            await self._leases.give_back(subscription)

    async def renew_leases(self) -> None:
        await self._leases.renew(list(self._subscriptions))

    async def _count(self, subscription: Subscription) -> None:
        """Enforce the limit over all processes, or in this process alone while Redis is unavailable."""
        taken = await self._leases.take(subscription, STREAMS_PER_USER)
        if taken is None:
            self._metrics.uncounted.inc()
        elif not taken:
            raise TooManyStreams


def _check_owner(caller: Principal, user_id: UUID) -> None:
    """Answer an admin with 403 and other callers with 404: an admin may see the user's list."""
    if caller.id != user_id:
        raise Forbidden if caller.role == Role.ADMIN else NotFound
