"""Who sends a request, as far as the network and the request's headers tell."""

from typing import Any, NamedTuple, Self

from litestar import Request

from services.kit.http.origin import Origin


class Client(NamedTuple):
    peer: str
    forwarded_for: str
    user_agent: str | None

    @classmethod
    def of(cls, request: Request[Any, Any, Any]) -> Self:
        return cls(
            peer=request.client.host if request.client else "",
            forwarded_for=",".join(request.headers.getall("x-forwarded-for", [])),
            user_agent=request.headers.get("user-agent"),
        )

    def address(self, trusted_hops: int) -> str:
        return Origin(self.peer, self.forwarded_for, trusted_hops).address
