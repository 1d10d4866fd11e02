"""The permissions of each service in Redis, as an ACL user. The chart gives its Redis the same rules."""

from services.contracts.streams import ALL, Stream

SERVICES = ("auth", "booking", "notification")

_CONNECTION = "+auth +hello +ping +select +client|setinfo"
# Redis checks the commands of a script like any other, against the keys of this user.
_SCRIPTS = "+eval +evalsha +script|load"
_OWN_KEYS = "+set +getdel +hincrby +expire +zadd +zcard +zrem +zremrangebyscore +time"
_OWN_CHANNELS = "+publish +subscribe +unsubscribe"
_WRITER = "+exists +xadd +xlen +xtrim +xgroup|create +xinfo|stream +xinfo|groups +xpending +bgrewriteaof"
_READER = (
    "+xreadgroup +xack +xautoclaim +xclaim +xpending +xgroup|delconsumer +xinfo|stream +xinfo|groups +xinfo|consumers"
)


def acl_rules(service: str) -> str:
    """Return the rules of `service` in the syntax of `ACL SETUSER`, without a password.

    A service has the keys and channels that begin with its name and appends to its own streams. It can neither append
    to nor trim the streams that it reads, so that one service's stolen password cannot forge another's events.
    """
    own = f"~{service}:* &{service}:* {_CONNECTION} {_SCRIPTS} {_OWN_KEYS} {_OWN_CHANNELS}"
    selectors = [rule for stream in ALL for rule in _selectors(service, stream)]
    return " ".join(["resetkeys resetchannels -@all", own, *selectors])


def _selectors(service: str, stream: Stream) -> list[str]:
    if stream.writer == service:
        return [f"(~{stream.name} {_SCRIPTS} {_WRITER})"]
    if service in stream.groups:
        return [f"(~{stream.name} {_SCRIPTS} {_READER})"]
    return []
