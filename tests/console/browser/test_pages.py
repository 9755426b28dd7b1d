"""Every page in a real browser, once: it answers, nothing in it runs, nothing is blocked, and axe finds no fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.browsers import WatchedPage, chromium, missing, sign_in, watched_page
from fixtures.console_world import TOKEN, ConsoleWorld, console_world

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing() or "-"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleWorld]:
    """A console with something to see on every page."""
    with console_world(tmp_path_factory.mktemp("console")) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of this file."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(world: ConsoleWorld, browser: Any) -> Iterator[WatchedPage]:
    """A page that is signed in."""
    with watched_page(browser, world.url) as found:
        sign_in(found, TOKEN)
        yield found


def paths(world: ConsoleWorld) -> list[str]:
    return [
        "/console", "/console/calls", "/console/failures", f"/console/calls/{world.exchange}", "/console/playground",
        "/console/experiments", "/console/experiments/of/swap", "/console/experiments/new", "/console/label",
        "/console/label/queue?scorer=valid_json", "/console/keys", f"/console/keys/key/{world.key}",
        "/console/keys/new", "/console/system", "/console/system/config", "/console/system/dead",
        f"/console/system/dead/{world.letter}", "/console/system/audit", "/console/predictor", "/console/system/design",
    ]  # fmt: skip


def opened(page: WatchedPage, path: str) -> None:
    """The page, and for a queue that is being drawn, the page after it."""
    page.go(path)
    if "label/queue" in path:
        page.page.wait_for_selector("button[data-key=g]")


def test_each_page_is_quiet_fits_and_is_accessible(page: WatchedPage, world: ConsoleWorld) -> None:
    for path in paths(world):
        opened(page, path)
        page.check(path)
        page.check_width()
        page.check_access()


def test_a_labeller_needs_no_mouse(page: WatchedPage) -> None:
    opened(page, "/console/label/queue?scorer=refusal")
    page.page.wait_for_selector("button[data-key=g]")
    first = page.page.input_value("input[name=item] >> nth=0")
    page.page.keyboard.press("g")
    page.page.wait_for_selector("button[data-key=u]")
    assert page.page.input_value("input[name=item] >> nth=0") != first
    page.page.keyboard.press("u")
    page.page.wait_for_selector("text=the last verdict is taken back")
    assert page.page.input_value("input[name=item] >> nth=0") == first
    page.check()


def test_the_list_of_calls_needs_no_mouse(page: WatchedPage) -> None:
    page.go("/console/calls")
    links = [row.query_selector("a").get_attribute("href") for row in page.page.query_selector_all("[data-row]")]
    for key, at in (("j", 0), ("j", 1), ("k", 0)):
        page.page.keyboard.press(key)
        assert page.page.evaluate("document.activeElement.getAttribute('href')") == links[at]
    page.page.keyboard.press("l")
    assert page.page.get_attribute("button[data-live]", "aria-pressed") == "true"
    page.page.keyboard.press("l")
    page.page.keyboard.press("j")
    page.page.keyboard.press("Enter")
    page.page.wait_for_url(f"{page.origin}{links[0]}")
    page.check()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390), ("dark", 390)])
def test_every_component_is_accessible_in_each_look(world: ConsoleWorld, browser: Any, scheme: str, width: int) -> None:
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    with watched_page(browser, world.url, **look) as found:
        sign_in(found, TOKEN)
        for path in ("/console/system/design", "/console", "/console/calls", "/console/experiments"):
            found.go(path)
            found.check(path)
            found.check_width()
            found.check_access()


def test_a_policy_violation_would_be_noticed(page: WatchedPage) -> None:
    """The checks above see what they claim to see."""
    page.go("/console")
    page.page.evaluate("document.body.setAttribute('onclick', 'window.pwned = 9')")
    page.page.click("h1")
    with pytest.raises(AssertionError, match="policy"):
        page.check()
    page.troubles.clear()
