"""Reading lists of notifications."""

from typing import Any

import httpx


async def pages(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], limit: int, between: Any = None
) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = await client.get(f"{path}?limit={limit}{cursor}", headers=headers)
        assert answer.status_code == 200
        page = answer.json()
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["nextCursor"] is None:
            return items
        cursor = f"&cursor={page['nextCursor']}"
        if between is not None:
            await between()


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


READ_ALL = {"all": True}
