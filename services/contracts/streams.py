"""The streams between the services, and who reads each of them."""

import msgspec


class Stream(msgspec.Struct, frozen=True):
    """`groups` are the readers that an entry must have reached before it may be forgotten."""

    name: str
    groups: tuple[str, ...]


USERS = Stream("auth.users", ("booking", "notification"))
APPOINTMENTS = Stream("booking.appointments", ("notification",))
