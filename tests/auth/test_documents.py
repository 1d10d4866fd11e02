"""The API documents that auth serves."""

import httpx


async def test_the_documents_of_all_services_are_listed(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/docs")
    assert page.headers["content-type"].startswith("text/html")
    for service in ("auth", "booking", "notification"):
        assert f'href="/api/docs/{service}"' in page.text
    assert "http" not in page.text.replace("http-equiv", "")


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
