import re
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from services.contracts.enums import AppointmentMode, BookableBy
from services.kit.schema import Line, Request, Text, Wire, form

ROOM = "{room}"
_ROOM_HINT = "Expected an https address with {room} once, after the host"
_URL = re.compile(r"[A-Za-z0-9._~:/?#@!$&'()*+,;=%{}-]+")


def _join_url_template(template: str) -> str:
    """Return it; raise ValueError unless every room makes an https address of it, on one host."""
    if not _URL.fullmatch(template):
        raise ValueError(_ROOM_HINT)
    try:
        url = urlsplit(template)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError(_ROOM_HINT) from None
    rest = url.path + url.query + url.fragment
    at_fault = url.scheme != "https" or not host or "@" in url.netloc or "{" in url.netloc or "}" in url.netloc
    if at_fault or rest.count(ROOM) != 1 or re.search("[{}]", rest.replace(ROOM, "")):
        raise ValueError(_ROOM_HINT)
    return template


Name = Annotated[Line, Meta(examples=["First consultation"])]
Minutes = Annotated[int, Meta(ge=5, le=480, examples=[30])]
Buffer = Annotated[
    int, Meta(ge=0, le=240, description="Minutes of the doctor's time that nothing else may take", examples=[10])
]
Price = Annotated[
    str,
    Meta(
        max_length=11,
        pattern=r"^(0|[1-9][0-9]{0,7})(\.[0-9]{1,2})?(?![\s\S])",
        description="A decimal number",
        examples=["99.50"],
    ),
]
Description = Annotated[Text, Meta(examples=["Please bring earlier findings."])]
RequiresConfirmation = Annotated[
    bool,
    Meta(description="Whether its appointments are PENDING, whatever `autoConfirm` is; null: as `autoConfirm` says"),
]
JoinUrlTemplate = Annotated[
    str,
    Meta(
        max_length=500,
        description="Of VIDEO: an https address, whose `{room}` is a random name in each appointment",
        examples=["https://meet.example.com/{room}"],
    ),
    form(_join_url_template),
]
Position = Annotated[int, Meta(ge=0, le=9999, description="Types are listed by it", examples=[0])]


class AppointmentTypeCreate(Request, frozen=True, kw_only=True, omit_defaults=True):
    """Encoded without defaults, as `AppointmentCreate` is. Without `position` the type is the last one."""

    name: Name
    duration_minutes: Minutes
    buffer_before_minutes: Buffer = 0
    buffer_after_minutes: Buffer = 0
    price: Price | None = None
    mode: AppointmentMode = AppointmentMode.IN_PERSON
    description: Description | None = None
    requires_confirmation: RequiresConfirmation | None = None
    bookable_by: BookableBy = BookableBy.EVERYONE
    join_url_template: JoinUrlTemplate | None = None
    active: bool = True
    position: Position | None = None


class AppointmentTypeUpdate(Request, frozen=True, kw_only=True):
    name: Name | UnsetType = UNSET
    duration_minutes: Minutes | UnsetType = UNSET
    buffer_before_minutes: Buffer | UnsetType = UNSET
    buffer_after_minutes: Buffer | UnsetType = UNSET
    price: Price | UnsetType | None = UNSET
    mode: AppointmentMode | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    requires_confirmation: RequiresConfirmation | UnsetType | None = UNSET
    bookable_by: BookableBy | UnsetType = UNSET
    join_url_template: JoinUrlTemplate | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET
    position: Position | UnsetType = UNSET


class AppointmentType(Wire, frozen=True, kw_only=True):
    """`joinUrlTemplate` is null for callers other than the doctor and admins."""

    id: UUID
    doctor_id: UUID
    name: Name
    duration_minutes: Minutes
    buffer_before_minutes: Buffer
    buffer_after_minutes: Buffer
    price: Annotated[str, Meta(examples=["99.50"])] | None
    mode: AppointmentMode
    description: Description | None
    requires_confirmation: RequiresConfirmation | None
    bookable_by: BookableBy
    join_url_template: Annotated[str, Meta(examples=["https://meet.example.com/{room}"])] | None
    active: bool
    position: Position
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def etag(self) -> str:
        return f'"{self.version}"'
