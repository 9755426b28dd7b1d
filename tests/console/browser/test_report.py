"""A report in a real browser, from its file alone: one first screen, two sheets of paper, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.browsers import WatchedPage, chromium, missing, watched_page

from gateway.verdict.report.html import to_html

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing() or "-"), pytest.mark.timeout(240)]
MOST_PX = 3_000
KINDS = ("ship", "hold", "reject", "nothing", "hostile")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running Chromium."""
    with chromium() as found:
        yield found


@pytest.fixture(params=[("light", 1280), ("dark", 390)], ids=["light, desk", "dark, phone"])
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[WatchedPage]:
    """A page that may only read files, in two looks."""
    scheme, width = request.param
    with watched_page(browser, "file://", color_scheme=scheme, viewport={"width": width, "height": 900}) as found:
        yield found


def test_each_report_is_quiet_fits_and_is_accessible(page: WatchedPage, report: Any, tmp_path: Path) -> None:
    for kind in KINDS:
        file = tmp_path / f"{kind}.html"
        file.write_text(to_html(report(kind)), encoding="utf-8")
        page.page.goto(file.as_uri())
        page.check(kind)
        page.check_width()
        page.check_access()
        page.page.evaluate("document.querySelector('details.rest').open = true")
        page.check_width()


def test_the_first_screen_is_short_and_prints_on_two_sheets(browser: Any, report: Any, tmp_path: Path) -> None:
    with watched_page(browser, "file://", viewport={"width": 1280, "height": 900}) as page:
        for kind in ("ship", "hold", "reject"):
            file = tmp_path / f"{kind}.html"
            file.write_text(to_html(report(kind)), encoding="utf-8")
            page.page.goto(file.as_uri())
            top = page.page.evaluate("document.querySelector('details.rest').getBoundingClientRect().top")
            lines = page.page.evaluate(
                "(h => Math.round(h.clientHeight / parseFloat(getComputedStyle(h).lineHeight)))"
                "(document.querySelector('h1.sentence'))"
            )
            sheets = len(re.findall(rb"/Type\s*/Page\b", page.page.pdf(format="A4")))
            assert top <= MOST_PX, (kind, top)
            assert lines <= 2, (kind, lines)
            assert sheets <= 2, (kind, sheets)


def test_a_meaning_opens_without_a_script(browser: Any, report: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(to_html(report()), encoding="utf-8")
    with watched_page(browser, "file://", java_script_enabled=False) as page:
        page.page.goto(file.as_uri())
        page.page.focus("button.term >> nth=0")
        assert not page.page.is_visible(".meaning >> nth=0")
        page.page.keyboard.press("Enter")
        assert page.page.is_visible(".meaning >> nth=0")
