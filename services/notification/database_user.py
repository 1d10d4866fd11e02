"""The service's own user in MongoDB, made by an administrator's connection."""

import pymongo
from pymongo.errors import OperationFailure
from pymongo.uri_parser import parse_uri

_USER_EXISTS = 51003
_TIMEOUT_MS = 10_000


def ensure_database_user(administrator_url: str, url: str) -> None:
    """Create the user that `url` names, or give an existing one the password there.

    The user may read and write the database of `url` and nothing else. Raises ValueError for a `url` without a user, a
    password or a database, and pymongo's errors.
    """
    parts = parse_uri(url)
    user, password, database = parts["username"], parts["password"], parts["database"]
    if not (user and password and database):
        raise ValueError("a user, a password and a database are needed")
    grant = {"pwd": password, "roles": [{"role": "readWrite", "db": database}]}
    with pymongo.MongoClient[dict[str, object]](administrator_url, timeoutMS=_TIMEOUT_MS) as client:
        users = client[parts["options"].get("authsource") or database]
        try:
            users.command("createUser", user, **grant)
        except OperationFailure as failure:
            if failure.code != _USER_EXISTS:
                raise
            users.command("updateUser", user, **grant)
