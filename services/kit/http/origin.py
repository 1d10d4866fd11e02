"""Where a request comes from: the address that the outermost of our own proxies saw."""

from contextvars import ContextVar
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import NamedTuple


class Origin(NamedTuple):
    peer: str
    forwarded_for: str
    trusted_hops: int

    @property
    def address(self) -> str:
        """Whatever stands in `X-Forwarded-For` before what our proxies appended was sent along by the client and may be
        made up. Of IPv6 the network, as every home has 2^64 addresses.
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
