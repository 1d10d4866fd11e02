"""Write to auth's stream of users."""

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.contracts import streams
from services.contracts.enums import UserStatus
from services.contracts.events import Event, UserApproved, UserErased, UserState, UserSuspended
from tests.booking.clinic import Person
from tests.support.issuer import Issuer
from tests.support.streams import entry, signed
from tests.support.waiting import eventually


class Bus:
    """The writing end of the stream."""

    def __init__(self, redis: Redis, issuer: Issuer) -> None:
        self._redis, self.issuer = redis, issuer

    async def open(self) -> None:
        try:
            await self._redis.xgroup_create(streams.USERS.name, "booking", "0", mkstream=True)
        except ResponseError as error:
            assert "BUSYGROUP" in str(error)  # noqa: PT017

    async def tell(self, *events: Event) -> None:
        """Append events and wait until the service has handled all of them."""
        for event in events:
            await self._redis.xadd(streams.USERS.name, signed(entry(event), self.issuer))  # type: ignore[arg-type]
        await self.settled()

    async def put(self, fields: dict[str, str]) -> None:
        await self.put_unsigned(signed(fields, self.issuer))

    async def put_unsigned(self, fields: dict[str, str]) -> None:
        await self._redis.xadd(streams.USERS.name, fields)  # type: ignore[arg-type]
        await self.settled()

    async def settled(self) -> None:
        async def settled() -> bool:
            groups = await self._redis.xinfo_groups(streams.USERS.name)
            return all(not group["pending"] and not group["lag"] for group in groups if group["name"] == b"booking")

        await eventually(settled)


def suspended(user: UserState, version: int, on_conflict: str = "cancel") -> UserSuspended:
    state = replace(user, status=UserStatus.SUSPENDED, version=version)
    return UserSuspended(user=state, on_conflict=on_conflict)  # type: ignore[arg-type]


def approved(user: UserState, version: int) -> UserApproved:
    return UserApproved(user=replace(user, status=UserStatus.ACTIVE, version=version))


def erased(person: Person, version: int = 9) -> UserErased:
    return UserErased(
        user=UserState(
            id=person.id,
            full_name="Erased user",
            role=person.state.role,
            status=UserStatus.SUSPENDED,
            time_zone="UTC",
            locale="en",
            email=f"{person.id}@erased.invalid",
            version=version,
            erased=True,
        )
    )
