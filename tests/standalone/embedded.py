"""Words stored in all three embedded servers, and the processes of a data folder."""

import contextlib
from pathlib import Path

import asyncpg
import psutil
import pymongo
import redis

from services.standalone.servers import Servers


def processes_in(directory: Path) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(one.cwd()).is_relative_to(directory):
                found.append(one)
    return found


async def note(servers: Servers, word: str) -> None:
    """Store `word` in every server."""
    connection = await asyncpg.connect(servers.postgres_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
    await connection.execute("INSERT INTO words VALUES ($1)", word)
    await connection.close()
    with redis.Redis.from_url(servers.redis_url) as client:
        client.rpush("words", word)
    with pymongo.MongoClient[dict[str, str]](servers.mongodb_url) as mongo:
        mongo["notes"]["words"].insert_one({"word": word})


async def noted(servers: Servers) -> list[list[str]]:
    """Return the words that each server has stored."""
    connection = await asyncpg.connect(servers.postgres_url)
    rows = [row["word"] for row in await connection.fetch("SELECT word FROM words")]
    await connection.close()
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        entries = client.lrange("words", 0, -1)
    with pymongo.MongoClient[dict[str, str]](servers.mongodb_url) as mongo:
        documents = [document["word"] for document in mongo["notes"]["words"].find()]
    return [rows, list(map(str, entries)), documents]
