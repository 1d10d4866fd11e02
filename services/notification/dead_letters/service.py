from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from services.kit.auth import Principal
from services.kit.errors import NotFound, Unavailable
from services.kit.streams.events import Envelope, decode_entry
from services.kit.streams.signatures import unchecked
from services.kit.trail.entry import entry
from services.notification.audit.repository import AuditTrail
from services.notification.dead_letters.repository import DeadLetterRepository, StoredEvent
from services.notification.dead_letters.schemas import DeadLetter, Replay
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.schemas import Delivery
from services.notification.directory.callers import Callers
from services.notification.errors import ChannelNotConfigured, ReplayFailed
from services.notification.notifying.schemas import Channel

log = structlog.get_logger("dead_letters")


class Handler(NamedTuple):
    """The functions that a stream's consumer and its replays share."""

    decode: Callable[[str], Any]
    handle: Callable[[Envelope[Any]], Awaitable[None]]
    check: Callable[[Mapping[str, str]], Awaitable[None]] = unchecked


class ReplayService:
    def __init__(
        self,
        callers: Callers,
        letters: DeadLetterRepository,
        deliveries: DeliveryRepository,
        audit: AuditTrail,
        handlers: Mapping[str, Handler],
        channels: Collection[Channel],
        wake: Callable[[], None],
    ) -> None:
        self._callers, self._letters, self._deliveries, self._audit = callers, letters, deliveries, audit
        self._handlers, self._channels, self._wake = handlers, channels, wake

    async def list(self, *, before: tuple[datetime, UUID] | None, limit: int) -> list[DeadLetter]:
        """Return dead letters of both kinds, newest first."""
        poison = await self._letters.list(before=before, limit=limit)
        failed = [_letter(one) for one in await self._deliveries.list_failed(before=before, limit=limit)]
        return sorted([*poison, *failed], key=lambda letter: (letter.died_at, letter.id), reverse=True)[:limit]

    async def replay(self, principal: Principal, letter_id: UUID) -> Replay:
        """Replay it. Concurrent replays are safe: an event's effects are unique, and a delivery revives once."""
        await self._callers.check(principal)
        await self._audit.add(
            entry("dead_letter.replayed", actor=principal, target_type="dead letter", target_id=letter_id)
        )
        if (stored := await self._letters.find(letter_id)) is not None:
            if stored.replayed_at is None:
                await self._handle(letter_id, stored)
            return Replay(id=letter_id, kind="EVENT", outcome="HANDLED")
        if await self._deliveries.revive(letter_id, self._channels):
            self._wake()
        else:
            delivery = await self._deliveries.find(letter_id)
            if delivery is None or (delivery.failed_at is None and delivery.replayed_at is None):
                raise NotFound
            if delivery.failed_at is not None:
                raise ChannelNotConfigured
        return Replay(id=letter_id, kind="DELIVERY", outcome="PENDING")

    async def _handle(self, letter_id: UUID, stored: StoredEvent) -> None:
        handler = self._handlers[stored.stream]
        try:
            await handler.check(stored.fields)
            await handler.handle(decode_entry(stored.entry_id, stored.fields, handler.decode))
        except Unavailable:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:1000]
            log.warning("replayed event failed again", letter=str(letter_id), error=type(error).__name__)
            await self._letters.mark_failed_again(letter_id, text)
            raise ReplayFailed(text) from None
        await self._letters.mark_replayed(letter_id)


def _letter(delivery: Delivery) -> DeadLetter:
    return DeadLetter(
        id=delivery.id,
        kind="DELIVERY",
        reason=delivery.reason or "",
        error=delivery.error or "",
        died_at=delivery.failed_at or delivery.created_at,
        event_id=str(delivery.event_id),
        appointment_id=delivery.appointment_id,
        recipient_id=delivery.recipient_id,
        channel=delivery.channel,
        notification_type=delivery.type,
        attempts=delivery.attempts,
    )
