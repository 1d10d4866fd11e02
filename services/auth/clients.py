"""Who sends a request, as far as the network and the request's headers tell."""

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple, Self

from litestar import Request


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
        """What the outermost of our own proxies saw: whatever stands before that in `X-Forwarded-For` was sent along by
        the client and may be made up. Of IPv6 the network, as every home has 2^64 addresses.
        """
        seen = [hop for part in self.forwarded_for.split(",") if (hop := part.strip())] + [self.peer]
        try:
            address = ip_address(seen[-1 - trusted_hops] if len(seen) > trusted_hops else self.peer)
        except ValueError:
            return self.peer
        if isinstance(address, IPv6Address):
            return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
        return str(address)
