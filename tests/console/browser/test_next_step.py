"""The page after a verdict and the first day, in a browser: they fit, are accessible, and copy what they show."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from fixtures.browsers import WatchedPage, chromium, missing, sign_in, watched_page
from fixtures.console_pages import TOKENS
from fixtures.simulated import Simulated, a_pair, seen

from gateway.core.exchange import Target
from gateway.core.plan import Plan, PlanState

WIDTHS = (1280, 390)
FORM = {
    "name": "swap", "control": "chat local/small", "upstream": "local", "candidate_model": "large", "mode": "shadow",
    "share": "25", "primary": "valid_json", "margin": "0.05", "guardrail": "", "guardrail_margin": "",
}  # fmt: skip


def check(page: WatchedPage, path: str) -> None:
    page.go(path)
    while page.page.query_selector("progress#summed"):
        page.go(path)
    page.check(path)
    page.check_width()
    page.check_access()


async def with_a_ship(pages: Any, corridor: Any) -> None:
    """An experiment of the console whose running plan ships."""
    await pages.send(await pages.login(), "/console/experiments/new", "/console/experiments/new", FORM)
    candidates = (("candidate", Target("local", "large")),)
    plan = Plan("swap", "chat", Target("local", "small"), candidates, shadow=1.0, repeat_control=1.0, primary="quality",
                margin=0.1)  # fmt: skip
    made = (await corridor.state.plans()).get("swap")
    assert await corridor.state.set_plan(PlanState(plan, "running", time.time()), made)
    answers = [a_pair(i, seen(0.5), candidate=seen(0.9), repeat=seen(0.5)) for i in range(400)]
    simulated = await asyncio.to_thread(Simulated, plan, pages.store_url)
    await asyncio.to_thread(simulated.add, answers)
    simulated.close()


def look(url: str) -> list[str]:
    """Checks both pages in both widths, and copies the YAML. Returns the texts of the button."""
    texts = []
    with chromium() as browser:
        for width in WIDTHS:
            with watched_page(browser, url, viewport={"width": width, "height": 900}) as page:
                page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
                sign_in(page, TOKENS["owner"])
                for path in ("/console", "/console/experiments", "/console/experiments/of/swap"):
                    check(page, path)
                page.page.click("details.next summary")
                page.page.click("button[data-copy]")
                page.page.wait_for_function("document.querySelector('button[data-copy]').textContent === 'Copied'")
                texts.append(page.page.evaluate("navigator.clipboard.readText()"))
    return texts


@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
@pytest.mark.timeout(300)
async def test_the_next_step_fits_and_copies_its_yaml(pages: Any, corridor: Any) -> None:
    await with_a_ship(pages, corridor)
    texts = await asyncio.to_thread(look, pages.url)
    assert len(texts) == len(WIDTHS)
    assert all("upstream: local" in text and "model: large" in text for text in texts)
