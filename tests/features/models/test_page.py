"""The page Models."""

from __future__ import annotations

from typing import Any


async def test_the_page_is_shown_without_calls(pages: Any) -> None:
    client = await pages.login()
    page = await pages.get(client, "/console/models")
    assert "No model had a call in the last 7 days" in page
    assert "No session is spread over targets" in page
