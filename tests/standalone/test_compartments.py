"""A service's credentials open nothing in the shared stores but what the service owns."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from pymongo.errors import OperationFailure
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from services.contracts.streams import ALL
from services.standalone.kept import KeptSecrets
from services.standalone.redis_users import SERVICES
from tests.support.databases import ServerUrls
from tests.support.deployment import Stores

_OTHER_STREAMS = [(service, stream.name) for service in SERVICES for stream in ALL if stream.writer != service]


@pytest.fixture
def stores(servers: ServerUrls) -> Stores:
    none: Any = None  # these tests use no PostgreSQL
    return Stores(servers.redis, servers.mongodb, none, none, KeptSecrets(Path(servers.kept)))


@pytest.fixture
def redis_of(stores: Stores) -> Iterator[Callable[[str], Redis]]:
    with ExitStack() as clients:
        yield lambda service: clients.enter_context(Redis.from_url(stores.redis_url_of(service)))


@pytest.mark.parametrize(("service", "stream"), _OTHER_STREAMS)
@pytest.mark.parametrize(
    "command",
    [
        ("XADD", "{stream}", "*", "type", "UserErased"),
        ("XTRIM", "{stream}", "MAXLEN", "0"),
        ("XDEL", "{stream}", "1-0"),
        ("DEL", "{stream}"),
        ("XGROUP", "SETID", "{stream}", "{service}", "$"),
        ("XGROUP", "DESTROY", "{stream}", "{service}"),
        ("XSETID", "{stream}", "9-9"),
        ("RENAME", "{service}:any", "{stream}"),
        ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'type', 'UserErased')", "1", "{stream}"),
        ("EVAL", "return redis.call('XADD', '{stream}', '*', 'type', 'UserErased')", "0"),
    ],
    ids=" ".join,
)
def test_a_service_can_neither_forge_nor_remove_another_ones_events(
    redis_of: Callable[[str], Redis], service: str, stream: str, command: tuple[str, ...]
) -> None:
    with pytest.raises(ResponseError, match=r"(?i)no permissions"):  # a script reports the same
        redis_of(service).execute_command(*(part.format(service=service, stream=stream) for part in command))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("other", [*SERVICES, "anything"])
def test_a_service_reaches_only_its_own_keys_and_channels(
    redis_of: Callable[[str], Redis], service: str, other: str
) -> None:
    redis, key = redis_of(service), f"{other}:{uuid4()}"
    if other == service:
        redis.set(key, "ours", ex=60)
        assert redis.getdel(key) == b"ours"
        redis.publish(key, "ours")
        return
    for refused in (lambda: redis.set(key, "planted"), lambda: redis.getdel(key), lambda: redis.publish(key, "forged")):
        with pytest.raises(NoPermissionError):
            refused()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "CONFIG GET *", "ACL LIST", "MONITOR"],
)
def test_a_service_can_neither_administer_redis_nor_list_its_keys(
    redis_of: Callable[[str], Redis], service: str, command: str
) -> None:
    with pytest.raises(NoPermissionError):
        redis_of(service).execute_command(*command.split())  # type: ignore[no-untyped-call]


def test_notification_reaches_only_its_own_database_in_mongodb(stores: Stores) -> None:
    with pymongo.MongoClient[dict[str, str]](stores.notification_mongodb_url) as mongodb:
        own = mongodb.get_default_database()["compartments"]
        own.insert_one({"whose": "ours"})
        own.drop()
        for refused in (
            lambda: mongodb["other"]["things"].insert_one({"whose": "not ours"}),
            lambda: mongodb["other"]["things"].find_one(),
            lambda: mongodb["admin"].command("createUser", "intruder", pwd="p", roles=["root"]),
            lambda: mongodb["admin"].command("shutdown"),
        ):
            with pytest.raises(OperationFailure):
                refused()
