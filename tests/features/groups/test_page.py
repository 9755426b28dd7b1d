"""The page Failures, and its part of Today."""

from __future__ import annotations

import re
from typing import Any

AS_JSON = b'{"messages":[{"role":"user","content":"a question?"}],"response_format":{"type":"json_object"}}'


async def fill(pages: Any, make_exchange: Any) -> None:
    """Requests for JSON fail, half of them; others, a tenth."""
    now = pages.admin.clock()
    for score, chosen in (
        (0.0, lambda i: i % 4 == 0 or i % 20 == 3), (1.0, lambda i: not (i % 4 == 0 or i % 20 == 3)),
    ):  # fmt: skip
        made = [
            make_exchange(received=now - 60 - i, unit=f"u{i}", **({"request": AS_JSON} if i % 4 in (0, 1) else {}))
            for i in range(400)
            if chosen(i)
        ]
        await pages.add(*made, score=score)


async def test_groups_are_shown_with_examples(pages: Any, make_exchange: Any) -> None:
    await fill(pages, make_exchange)
    client = await pages.login()
    page = await pages.get(client, "/console/failures")
    assert "valid_json: failures in groups" in page
    assert re.search(r"<h1[^>]*>[\d.]+\s% of the failures of valid_json: .*JSON asked for", page), page[:2000]
    assert "JSON asked for" in page
    assert "Too few to say" not in page
    part = await pages.get(client, "/console/failures/today")
    assert "Failing together" in part
    assert part.count("/console/calls/") == 3
    assert 'hx-get="/console/failures/today"' in await pages.get(client, "/console")
    other = await pages.get(client, "/console/failures?calls=imported")
    assert "No scorer found a failure" in other or "Too few to say" in other


async def test_without_failures_today_says_nothing_of_them(pages: Any) -> None:
    client = await pages.login()
    assert "Failing together" not in await pages.get(client, "/console/failures/today")
    answer = await client.get("/console/failures?since=soon")
    assert answer.status_code == 400
    assert "is not a time span" in answer.text
