"""Where a request comes from, as the outermost of the platform's own proxies saw it."""

from contextvars import ContextVar
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import NamedTuple


class Origin(NamedTuple):
    peer: str
    forwarded_for: str
    trusted_hops: int

    @property
    def address(self) -> str:
        """The client's IPv4 address or IPv6 network of 64 bits, as every home has 2^64 addresses.

        Only what the platform's own proxies appended to `X-Forwarded-For` counts: the rest is the client's word.
        """
        seen = [hop for part in self.forwarded_for.split(",") if (hop := part.strip())] + [self.peer]
        try:
            address = ip_address(seen[-1 - self.trusted_hops] if len(seen) > self.trusted_hops else self.peer)
        except ValueError:
            return self.peer
        if isinstance(address, IPv6Address):
            return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
        return str(address)


origin: ContextVar[Origin | None] = ContextVar("origin", default=None)
