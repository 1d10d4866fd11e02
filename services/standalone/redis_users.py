"""What each service may do in Redis, as an ACL user of its own; the chart gives its Redis the same rules."""

from services.contracts.streams import ALL, Stream

SERVICES = ("auth", "booking", "notification")

_CONNECTION = "+auth +hello +ping +select +client|setinfo"
# What a script calls is checked like any other command, against the keys that this user may touch.
_SCRIPTS = "+eval +evalsha +script|load"
_OWN_KEYS = "+set +getdel +hincrby +expire +zadd +zcard +zrem +zremrangebyscore +time"
_OWN_CHANNELS = "+publish +subscribe +unsubscribe"
_WRITER = "+exists +xadd +xtrim +xgroup|create +xinfo|stream +xinfo|groups +xpending"
_READER = (
    "+xreadgroup +xack +xautoclaim +xclaim +xpending +xgroup|delconsumer +xinfo|stream +xinfo|groups +xinfo|consumers"
)


def acl_rules(service: str) -> str:
    """The rules of `service`, in the syntax of `ACL SETUSER` and without a password.

    Its own keys and channels begin with its name. It appends to its own streams; a stream that it reads it can neither
    append to nor trim, so that a stolen password of one service forges no event of another.
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
