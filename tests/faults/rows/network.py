"""Networks that are cut, one-way, slow and lossy."""

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from tests.faults.measures import p99
from tests.faults.row import row
from tests.faults.run import Run
from tests.support.proxy import Proxy

_SETTINGS = {
    "booking": {
        "postgres": "BOOKING_DATABASE_URL",
        "redis": "REDIS_URL",
        "keys": "JWKS_URL",
        "auth": "AUTH_INTERNAL_URL",
    },
    "notification": {
        "mongodb": "MONGODB_URL",
        "redis": "REDIS_URL",
        "keys": "JWKS_URL",
        "auth": "AUTH_INTERNAL_URL",
    },
}
_WAYS = ("both ways", "requests", "replies", "reset")


@row("22", "partitions of each pair: both ways, one way, reset")
async def partitions(run: Run) -> None:
    links = {
        (service, server): await run.platform.link(service, server)
        for service, servers in _SETTINGS.items()
        for server in servers
    }
    await run.configure(
        {
            service: {setting: links[service, server].url for server, setting in servers.items()}
            for service, servers in _SETTINGS.items()
        }
    )
    cuts = [(pair, way) for pair in links if pair[1] != "keys" for way in _WAYS]
    run.random.shuffle(cuts)
    hold = 5.0 if run.length.long else 1.2
    async with run.load(seconds=max(run.seconds, len(cuts) * (hold + 1)) if run.length.long else 14):
        for pair, way in cuts if run.length.long else cuts[:6]:
            async with run.fault(f"{way} between {' and '.join(pair)}"):
                _partition(links[pair], way)
                await asyncio.sleep(hold)
                links[pair].heal()
            await asyncio.sleep(0.5)
    await run.settled()
    await _without_auth(run, [link for (_, server), link in links.items() if server in ("auth", "keys")])
    for link in links.values():
        link.heal()


def _partition(link: Proxy, way: str) -> None:
    if way == "reset":
        link.reset()
    if way in ("both ways", "requests"):
        link.hold_requests()
    if way in ("both ways", "replies"):
        link.hold_replies()


async def _without_auth(run: Run, links: list[Proxy]) -> None:
    """Require that unexpired tokens keep working while auth is away, also at replicas that start meanwhile."""
    async with run.fault("auth away"):
        for link in links:
            link.cut()
        for replica in run.platform.replicas("booking"):
            await run.platform.restart(replica)
        slot = run.platform.people.free_slot()
        answer = await run.client.book(slot)
        run.require(answer.status == 201, f"a new replica while auth is away: {answer.status} {answer.body[:200]!r}")
        answer = await run.client.get("notification", f"/api/notifications/{slot.patient}", slot.patient)
        run.require(answer.status == 200, f"notification while auth is away: {answer.status}")


@row("23", "5 % loss, 300 ms delay, 1 KiB slices")
async def bad_network(run: Run) -> None:
    platform = run.platform
    links = {service: await platform.link(service, "redis") for service in ("booking", "notification")}
    await run.configure({service: {"REDIS_URL": link.url} for service, link in links.items()})
    async with AsyncExitStack() as opened:
        proxies = list(links.values())
        for replica in platform.replicas("booking"):
            proxy = await opened.enter_async_context(Proxy.to(replica.url))
            platform.balancer.via[replica.name] = urlsplit(proxy.url).port or 0
            proxies.append(proxy)
        try:
            async with run.load(), run.fault("bad network"):
                for proxy in proxies:
                    proxy.delay_seconds, proxy.loss, proxy.chunk_bytes = 0.15, 0.05, 1024
                await asyncio.sleep(run.seconds)
            operations = await run.settled()
        finally:
            platform.balancer.via.clear()
            for proxy in proxies:
                proxy.heal()
    slow = p99([reply.seconds for one in operations for reply in one.replies])
    run.note(f"p99 {slow:.2f} s")
    run.within(slow < 3, f"p99 {slow:.1f} s")
