"""The streams between the services, with the writer and the readers of each."""

import msgspec


class Stream(msgspec.Struct, frozen=True):
    """`groups` are the consumer groups that must acknowledge an entry before the relay may trim it."""

    name: str
    writer: str
    groups: tuple[str, ...]


USERS = Stream("auth.users", "auth", ("booking", "notification"))
APPOINTMENTS = Stream("booking.appointments", "booking", ("notification",))
ALL = (USERS, APPOINTMENTS)
