"""The API documents and their page."""

import re

import httpx

from tests.kit.http.services import assert_problem


async def test_the_documents_page_loads_nothing_from_another_host(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/docs/notes")
    assert page.headers["content-type"].startswith("text/html")
    addresses = re.findall(r'(?:src|href|data-url)="([^"]+)"', page.text)
    assert addresses
    assert all(address.startswith("/api/docs/notes/") for address in addresses)
    for address in addresses:
        assert (await client.get(address)).status_code == 200
    assert "://" not in page.text


async def test_a_page_may_run_its_own_files_only_and_be_framed_by_nobody(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/api/docs/notes")).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert "geolocation=()" in headers["permissions-policy"]


async def test_a_page_without_a_policy_of_its_own_may_do_nothing(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/api/page")).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; base-uri 'none'")


async def test_a_path_outside_the_assets_is_404(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/api/docs/notes/assets/..%2f__init__.py"), 404, "not_found")


async def test_the_openapi_document_shows_which_routes_are_public(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/docs/notes/openapi.json")).json()
    assert document["security"] == [{"bearer": []}]
    assert document["paths"]["/api/notes"]["get"]["security"] == []
    assert "security" not in document["paths"]["/api/mine"]["get"]
