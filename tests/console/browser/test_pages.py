"""Every page in a real browser, once: it answers, nothing in it runs, nothing is blocked, and axe finds no fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from fixtures.browsers import WatchedPage, chromium, missing, sign_in, watched_page
from fixtures.console_world import HOSTILE, TOKEN, ConsoleWorld, add_call, console_world

from gateway.core.exchange import Target

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
    """Every page but those of the navigation, which are added."""
    return [
        f"/console/calls/{world.exchange}", "/console/experiments/of/swap", "/console/experiments/new",
        "/console/label/queue?scorer=valid_json", f"/console/keys/key/{world.key}", "/console/keys/new",
        "/console/system/config", "/console/system/dead", f"/console/system/dead/{world.letter}",
        "/console/system/audit", "/console/system/design",
        "/console/guards/of/secrets", "/console/decisions/of/auto", "/console/label/queue?scorer=guard%20secrets",
    ]  # fmt: skip


def opened(page: WatchedPage, path: str) -> None:
    """The page, and for a queue that is being drawn, the page after it."""
    page.go(path)
    if "label/queue" in path:
        page.page.wait_for_selector("button[data-key=g]")


def test_each_page_is_quiet_fits_and_is_accessible(page: WatchedPage, world: ConsoleWorld) -> None:
    for path in (*page.navigation(), *paths(world)):
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


def test_a_guard_is_labelled_without_a_mouse(page: WatchedPage) -> None:
    page.go("/console/guards")
    page.page.keyboard.press("j")
    page.page.keyboard.press("Enter")
    page.page.wait_for_url("**/console/guards/of/secrets*")
    page.page.keyboard.press("l")
    page.page.wait_for_selector("button[data-key=b]")
    first = page.page.input_value("input[name=item] >> nth=0")
    page.page.keyboard.press("b")
    page.page.wait_for_selector("button[data-key=u]")
    assert page.page.input_value("input[name=item] >> nth=0") != first
    assert "1 given in this queue" in page.page.inner_text("main")
    page.check()


def test_a_guard_is_promoted_paused_and_taken_back(page: WatchedPage) -> None:
    for button, done in (
        ("Promote", "Every unit gets flag"),
        ("Pause", "first phase, paused"),
        ("Resume", "first phase"),
        ("Roll back", "Every unit gets observe"),
    ):
        page.go("/console/guards/of/secrets")
        page.page.fill("#ramp-reason", f"to {button}")
        page.page.click(f"button:text-is('{button}')")
        page.page.wait_for_selector(f"#ramp p:has-text('to {button}')")
        assert done in page.page.inner_text("#ramp")
        page.check()
    page.check_access()


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


def test_new_calls_come_in_at_the_top_while_one_looks(page: WatchedPage, world: ConsoleWorld) -> None:
    page.go("/console/calls")
    before = page.page.eval_on_selector_all("[data-row]", "rows => rows.length")
    page.page.click("button[data-live]")
    assert page.page.get_attribute("button[data-live]", "aria-pressed") == "true"
    for text in (HOSTILE, "the newest answer"):
        id = add_call(world, text)
        page.page.wait_for_selector(f"tbody tr.new[data-id='{id}']")
        assert page.page.get_attribute("tbody tr >> nth=0", "data-id") == id
    assert page.page.eval_on_selector_all("[data-row]", "rows => rows.length") == before + 2
    page.page.keyboard.press("j")
    assert page.page.evaluate("document.activeElement.closest('tr').dataset.id") == id, "keys reach it"
    page.page.keyboard.press("l")
    assert page.page.get_attribute("button[data-live]", "aria-pressed") == "false"
    page.check()
    page.check_width()
    page.check_access()


def test_without_a_script_one_loads_the_list_again(world: ConsoleWorld, browser: Any) -> None:
    with watched_page(browser, world.url, java_script_enabled=False) as found:
        sign_in(found, TOKEN)
        found.go("/console/calls")
        assert not found.page.is_visible("button[data-live]")
        id = add_call(world, "an answer that came meanwhile")
        found.page.click("text=Load again")
        found.page.wait_for_selector(f"tr[data-id='{id}']")
        found.check()


LONG = "\N{LLAMA}\N{FAMILY}" + "W" * 1_000_000
"""A line of a megabyte without a blank."""


@pytest.mark.parametrize("width", [1280, 390])
def test_long_texts_and_names_do_not_break_the_layout(world: ConsoleWorld, browser: Any, width: int) -> None:
    asked = {"messages": [{"role": "user", "content": LONG}]}
    name = "n" * 200
    id = add_call(
        world, LONG, request=orjson.dumps(asked), caller=name, alias=name, target=Target("local", name), run=name,
        run_source="x-gateway-run", reference=LONG[:100_000],
    )  # fmt: skip
    with watched_page(browser, world.url, viewport={"width": width, "height": 844}) as found:
        sign_in(found, TOKEN)
        for path in ("/console/calls", f"/console/calls/{id}", "/console/runs", "/console"):
            found.go(path)
            found.check(path)
            found.check_width()
        found.go("/console/calls")
        cell = found.page.query_selector(f"tr[data-id='{id}'] .two-lines").bounding_box()
        assert cell["height"] < 60, "two lines"


OF_LOOKS = ("color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size")
"""Rules of axe that a colour scheme or a width can break; the others read the document, which is always the same."""


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390), ("dark", 390)])
def test_every_component_is_accessible_in_each_look(world: ConsoleWorld, browser: Any, scheme: str, width: int) -> None:
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    with watched_page(browser, world.url, **look) as found:
        sign_in(found, TOKEN)
        guards = ("/console/guards", "/console/guards/of/secrets")
        for path in ("/console/system/design", "/console", "/console/calls", "/console/experiments", *guards):
            found.go(path)
            found.check(path)
            found.check_width()
            found.check_access(OF_LOOKS)


def test_a_policy_violation_would_be_noticed(page: WatchedPage) -> None:
    """The checks above see what they claim to see."""
    page.go("/console")
    page.page.evaluate("document.body.setAttribute('onclick', 'window.pwned = 9')")
    page.page.click("h1")
    page.page.wait_for_function("window.violations.length")  # the event is a task of its own, after the click
    with pytest.raises(AssertionError, match="policy"):
        page.check()
    page.troubles.clear()
