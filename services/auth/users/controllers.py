from uuid import UUID

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from services.auth.users.reads import UserReads
from services.contracts.events import UserState
from services.kit.http.guards import requires_internal_token


def internal_user_handler(user_reads: UserReads, *tokens: str) -> HTTPRouteHandler:
    @get("/internal/users/{id:uuid}", before_request=requires_internal_token(*tokens))
    async def get_user(id: FromPath[UUID]) -> UserState:
        return await user_reads.get_state(id)

    return get_user
