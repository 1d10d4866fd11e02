import asyncio
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError

from services.kit.streams.redis import redis_client
from tests.support.databases import ServerUrls
from tests.support.proxy import Proxy


async def _ask_again_after_a_reset(url: str) -> None:
    async with (
        Proxy.to(url) as proxy,
        redis_client(proxy.url, connect_seconds=2, answer_seconds=2) as redis,
    ):
        pool: Any = redis.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_command("PING")
            await connection.read_response()
            proxy.reset()
            await asyncio.sleep(0.05)
            await connection.send_command("PING")
        finally:
            await pool.release(connection)


def test_a_reset_connection_raises_a_connection_error_under_uvloop(servers: ServerUrls) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(ConnectionError):
        runner.run(_ask_again_after_a_reset(servers.redis))
