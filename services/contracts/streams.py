"""The streams between the services, with the service that writes each and those that read it."""

import msgspec


class Stream(msgspec.Struct, frozen=True):
    """`groups` are the readers that an entry must have reached before it may be forgotten."""

    name: str
    writer: str
    groups: tuple[str, ...]


USERS = Stream("auth.users", "auth", ("booking", "notification"))
APPOINTMENTS = Stream("booking.appointments", "booking", ("notification",))
ALL = (USERS, APPOINTMENTS)
