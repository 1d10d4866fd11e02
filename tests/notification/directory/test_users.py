"""The projections, written to by all replicas at once."""

import asyncio

import msgspec

from services.contracts.enums import Role
from services.notification.directory.repository import UserRepository
from services.notification.repository import Store
from tests.support.auth_stub import AuthStub


async def test_of_versions_that_arrive_at_once_the_highest_stays(auth: AuthStub, store: Store) -> None:
    users = UserRepository(store)
    people = [auth.user(Role.PATIENT) for _ in range(300)]
    for person in people:
        newer = msgspec.structs.replace(person, version=2)
        await asyncio.gather(users.put(person), users.put(newer), users.put(person))
    found = await users.find([person.id for person in people])
    assert [found[person.id].version for person in people] == [2] * len(people)


async def test_what_was_put_comes_back_whole(auth: AuthStub, store: Store) -> None:
    users = UserRepository(store)
    user = msgspec.structs.replace(
        auth.user(Role.DOCTOR, "Ada $set {name} Ünal"), phone="+49 30 1", speciality="Zahnarzt"
    )
    await users.put(user)
    assert await users.find([user.id]) == {user.id: user}
    assert await users.find([]) == {}
