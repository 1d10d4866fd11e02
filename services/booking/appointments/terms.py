"""What an appointment keeps of its type that no response shows as such."""

from datetime import timedelta
from typing import NamedTuple


class Terms(NamedTuple):
    """`requires_confirmation` is None where the doctor's schedule decides."""

    buffer_before: timedelta
    buffer_after: timedelta
    requires_confirmation: bool | None
    join_url: str | None
