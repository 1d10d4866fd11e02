"""Request ids and metrics."""

import re
from uuid import uuid4

import httpx
import pytest

from services.kit.http.service import Service
from tests.kit.http.notes import note
from tests.kit.http.services import doctor


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a\tforged", False), ("", False)],
)
async def test_a_request_id_is_kept_when_it_is_well_formed(client: httpx.AsyncClient, given: str, kept: bool) -> None:
    response = await client.get("/api/context", headers={"X-Request-ID": given})
    assert response.json()["id"] == response.headers["x-request-id"]
    assert (response.headers["x-request-id"] == given) is kept


async def test_requests_are_counted_by_route_template(client: httpx.AsyncClient, service: Service) -> None:
    await client.post(f"/api/notes/{uuid4()}", json=note(), headers=doctor())
    await client.request("PURGE", "/api/notes")
    await client.get(f"/nowhere/{uuid4()}")
    transport = httpx.ASGITransport(service.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://notes.test") as internal:
        metrics = (await internal.get("/metrics")).text
    assert re.search(r'http_requests_total\{method="POST",route="/api/notes/\{note_id\}",status="201"\} \d', metrics)
    assert 'method="OTHER"' in metrics
    assert "PURGE" not in metrics
    assert "nowhere" not in metrics
