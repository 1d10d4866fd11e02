"""The API documents that auth serves."""

import re
from base64 import b64encode
from hashlib import sha256

import httpx


async def test_the_documents_of_all_services_are_listed(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/docs")
    assert page.headers["content-type"].startswith("text/html")
    for service in ("auth", "booking", "notification"):
        assert f'href="/api/docs/{service}"' in page.text
    assert "://" not in page.text


async def test_the_pages_lead_to_each_other_and_to_existing_errors(client: httpx.AsyncClient) -> None:
    beginning, errors = [(await client.get(path)).text for path in ("/api/docs", "/api/docs/errors")]
    assert 'href="/api/docs"' in errors
    linked = set(re.findall(r'href="/api/docs/errors#(\w+)"', beginning))
    assert linked
    assert linked <= set(re.findall(r'<section id="(\w+)">', errors))


async def test_the_pages_carry_out_no_script(client: httpx.AsyncClient) -> None:
    for path in ("/api/docs", "/api/docs/errors"):
        page = await client.get(path)
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)
        assert style
        assert f"'sha256-{b64encode(sha256(style[1].encode()).digest()).decode()}'" in policy
        assert "default-src 'none'" in policy
        assert "script-src" not in policy


async def test_the_document_describes_every_operation(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/docs/auth/openapi.json")).json()
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not path.startswith("/api/health")
    ]
    assert len(operations) == 30
    for name, operation in operations:
        assert operation["summary"], name
        assert operation["description"], name
        for status, answer in operation["responses"].items():
            kinds = set(answer.get("content", {}))
            expected = {"application/problem+json"} if int(status) >= 400 else {"application/json"}
            assert kinds == (set() if status == "204" else expected), name
