"""The short-lived state of streams in Redis: tickets, and the open streams of each user in all processes."""

import hashlib
import secrets
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.kit.auth import Principal
from services.kit.errors import Unavailable
from services.kit.signed_tokens import SignedTokens
from services.kit.streams.redis import redis_client
from services.notification.live.subscriptions import Subscription

REDIS_AWAY = (RedisError, OSError)
_CONNECTIONS = 16
_SECONDS = 0.25


def live_client(url: str) -> Redis:
    """Make a client with short time-outs, because requests and events wait for it."""
    return redis_client(
        url, connect_seconds=_SECONDS, answer_seconds=_SECONDS, connections=_CONNECTIONS, turn_seconds=_SECONDS
    )


class TicketRepository:
    """Store the hash of a ticket with its signed caller.

    An attacker who reads Redis finds no usable ticket, and one who writes to it cannot plant a ticket: the signature
    binds the caller to the ticket, and its key is not in Redis.
    """

    def __init__(self, redis: Redis, tokens: SignedTokens) -> None:
        self._redis, self._tokens = redis, tokens

    async def add(self, caller: Principal, seconds: int) -> str:
        ticket = secrets.token_urlsafe(32)
        signed = self._tokens.issue(msgspec.json.encode(caller), context=_hash_of(ticket))
        try:
            await self._redis.set(_ticket_key(ticket), signed, ex=seconds)
        except REDIS_AWAY as error:
            raise Unavailable from error
        return ticket

    async def take(self, ticket: str) -> Principal | None:
        """Return the caller who asked for this ticket, once; None for any other ticket."""
        try:
            signed: Any = await self._redis.getdel(_ticket_key(ticket))
        except REDIS_AWAY as error:
            raise Unavailable from error
        caller = signed and self._tokens.read(signed.decode("latin-1"), context=_hash_of(ticket))
        return msgspec.json.decode(caller, type=Principal) if caller else None


class OpenStreamRepository:
    """Count open streams by leases: the streams of a killed process stop counting when their leases end."""

    def __init__(self, redis: Redis, lease_seconds: int) -> None:
        self._redis, self._lease = redis, str(lease_seconds)

    async def take(self, subscription: Subscription, at_most: int) -> bool | None:
        """Return None while Redis is unavailable."""
        try:
            taken: Any = await self._redis.eval(
                _TAKE, 1, _streams_key(subscription.user_id), str(subscription.id), self._lease, str(at_most)
            )
        except REDIS_AWAY:
            return None
        return bool(taken)

    async def renew(self, subscriptions: Iterable[Subscription]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for one in subscriptions:
            pipeline.eval(_RENEW, 1, _streams_key(one.user_id), str(one.id), self._lease)
        try:
            await pipeline.execute()
        except REDIS_AWAY as error:
            raise Unavailable from error

    async def give_back(self, subscription: Subscription) -> None:
        try:
            await self._redis.zrem(_streams_key(subscription.user_id), str(subscription.id))
        except REDIS_AWAY:
            return  # its lease ends


def _ticket_key(ticket: str) -> str:
    return f"notification:ticket:{_hash_of(ticket).hex()}"


def _hash_of(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "replace")).digest()


def _streams_key(user_id: UUID) -> str:
    return f"notification:streams:{user_id}"


# By Redis' clock, because the clocks of replicas differ.
_RENEW = """
    redis.call('ZADD', KEYS[1], redis.call('TIME')[1] + ARGV[2], ARGV[1])
    redis.call('EXPIRE', KEYS[1], ARGV[2])
    return 1
"""
_TAKE = f"""
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1])
    if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
    {_RENEW}
"""
