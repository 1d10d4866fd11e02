"""One trace leads from a booking's HTTP request over the outbox, the stream and MongoDB to its mails."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from tests.standalone.people import Person, book
from tests.support.canary import NOTE
from tests.support.collector import Collector, Received, collecting
from tests.support.deployment import Deployment
from tests.support.mail_server import MailServer
from tests.support.process import free_ports
from tests.support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENTS_SPAN = "b7ad6b7169203331"


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def collector_url(collector: Collector) -> Iterator[str]:
    with collecting(collector) as url:
        yield url


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    server = MailServer()
    await server.start()
    yield server
    await server.stop()


async def launched(deployment: Deployment, mails: MailServer, collector_url: str) -> None:
    smtp = {"SMTP_URL": mails.url, "MAIL_FROM": "no-reply@example.com", "LINK_BASE_URL": "https://app.example.com"}
    exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    for service in ("auth", "booking", "notification"):
        deployment.launch(service, **smtp, **exporting)
    await deployment.ready()


async def booked(deployment: Deployment, mails: MailServer) -> list[Person]:
    """Book in the client's trace, and wait for the mails to both sides."""
    people = []
    for role in (Role.PATIENT, Role.DOCTOR):
        id = uuid7()
        await deployment.register(role, [id])
        headers = {"Authorization": f"Bearer {deployment.token(id, role)}"}
        people.append(Person(str(id), f"{id}@example.com", headers))
    booking = deployment.processes["booking"][0].url

    async def has_keys() -> bool:
        """Booking is ready before it has fetched auth's keys, and answers 503 until then."""
        async with httpx.AsyncClient(base_url=booking, trust_env=False) as client:
            return (await client.get("/api/appointments", headers=people[0].headers)).status_code == 200

    await eventually(has_keys)
    in_trace = {"traceparent": f"00-{TRACE}-{CLIENTS_SPAN}-01"}
    with httpx.Client(base_url=booking, headers=in_trace, timeout=60) as client:
        await asyncio.to_thread(book, client, *people)
    await eventually(lambda: len(mails.taken) == 2)
    return people


async def test_a_booking_is_one_trace_from_its_request_to_its_mails(
    deployment: Deployment, mails: MailServer, collector: Collector, collector_url: str
) -> None:
    await launched(deployment, mails, collector_url)
    people = await booked(deployment, mails)
    way = [
        ("booking", "SERVER", "POST /api/appointments"),
        ("booking", "PRODUCER", "send booking.appointments"),
        ("notification", "CONSUMER", "process booking.appointments"),
        ("notification", "CONSUMER", "process deliveries"),
        ("notification", "CLIENT", "send email"),
    ]
    # The services send their spans in batches of their own.
    await eventually(lambda: [ancestry(collector, mail) for mail in sent(collector)] == [way, way])
    await eventually(lambda: [span.parent_id for span in tops(collector)] == [CLIENTS_SPAN])
    spans = {span.id: span for span in collector.trace(TRACE)}
    assert not [span for span in spans.values() if span.failed]
    for call in spans.values():
        if call.kind == "SERVER" and call.parent_id != CLIENTS_SPAN:
            # Only if an account is not in the projection yet.
            assert (call.service, spans[call.parent_id].kind) == ("auth", "CLIENT")
    for span in collector.spans:
        for secret in (
            *(secret for person in people for secret in (person.id, person.email)),
            NOTE,
            "Ada",
            "Bearer",
            "?",
            "@",
        ):
            assert str(secret) not in span.text, span


async def test_a_dead_collector_delays_and_fails_nothing_and_the_services_still_stop(
    deployment: Deployment, mails: MailServer
) -> None:
    (port,) = free_ports(1)
    await launched(deployment, mails, f"http://127.0.0.1:{port}")
    await booked(deployment, mails)
    for process in deployment.all:
        assert await asyncio.to_thread(process.stop) == 0


async def test_a_service_that_stops_sends_its_last_spans(
    deployment: Deployment, collector: Collector, collector_url: str
) -> None:
    hour = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    auth = deployment.launch("auth", **hour)
    await deployment.ready()
    answer = await asyncio.to_thread(httpx.get, f"{auth.url}/api/auth/.well-known/jwks.json")
    assert answer.status_code == 200
    assert collector.requests == 0
    assert await asyncio.to_thread(auth.stop) == 0
    assert "GET /api/auth/.well-known/jwks.json" in [span.name for span in collector.spans]


def sent(collector: Collector) -> list[Received]:
    return [span for span in collector.trace(TRACE) if span.name == "send email"]


def tops(collector: Collector) -> list[Received]:
    """Return the spans of the trace whose parents are not in it."""
    spans = {one.id: one for one in collector.trace(TRACE)}
    return [span for span in spans.values() if span.parent_id not in spans]


def ancestry(collector: Collector, span: Received) -> list[tuple[str, str, str]]:
    """Return the span and those above it, down from the one that has the client's span as its parent."""
    spans = {one.id: one for one in collector.trace(TRACE)}
    steps = [span]
    while steps[-1].parent_id in spans:
        steps.append(spans[steps[-1].parent_id])
    return [(step.service, step.kind, step.name) for step in reversed(steps)]
