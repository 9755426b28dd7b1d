"""Every page and every form of the console in a real browser: both colour schemes, a phone, and no JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.browsers import WatchedPage, chromium, missing, sign_in, watched_page
from fixtures.console_world import HOSTILE, TEAM_TOKEN, TOKEN, ConsoleWorld, console_world

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    pytest.mark.timeout(600),
]
DESK, PHONE, WALL = {"width": 1280, "height": 800}, {"width": 390, "height": 844}, {"width": 3840, "height": 2160}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone, light": {"color_scheme": "light", "viewport": PHONE},
    "phone, dark": {"color_scheme": "dark", "viewport": PHONE},
    "wall": {"color_scheme": "light", "viewport": WALL},
    "no script": {"java_script_enabled": False, "viewport": DESK},
    "phone, no script": {"java_script_enabled": False, "viewport": PHONE},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleWorld]:
    """A console with something to see on every page."""
    with console_world(tmp_path_factory.mktemp("console")) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running Chromium."""
    with chromium() as found:
        yield found


@pytest.fixture
def signed_in(browser: Any, world: ConsoleWorld, request: pytest.FixtureRequest) -> Iterator[WatchedPage]:
    """A page of the browser with an owner signed in; its parameter names the look."""
    look = getattr(request, "param", "light")
    with watched_page(browser, world.url, **LOOKS[look]) as found:
        sign_in(found, TOKEN)
        yield found


def every_path(world: ConsoleWorld) -> list[str]:
    """Every page but those of the navigation."""
    return [
        "/console/login", "/console/me/login", "/console/calls?caller=x", f"/console/calls/{world.exchange}",
        "/console/experiments/of/swap", "/console/experiments/new", "/console/label/queue?scorer=valid_json",
        "/console/label/queue?scorer=refusal", "/console/guards/of/secrets",
        "/console/decisions/of/auto",
        "/console/label/queue?scorer=guard%20secrets", f"/console/keys/key/{world.key}",  "/console/keys/new",
        "/console/keys/new-team", "/console/system/config", "/console/system/dead",
        "/console/system/dead?reason=unreadable", f"/console/system/dead/{world.letter}", "/console/system/audit",
        "/console/system/design",
    ]  # fmt: skip


@pytest.mark.parametrize("signed_in", LOOKS, indirect=True)
def test_each_page_in_each_look(signed_in: WatchedPage, world: ConsoleWorld) -> None:
    for path in (*signed_in.navigation(), *every_path(world)):
        signed_in.go(path)
        if "label/queue" in path:
            signed_in.page.wait_for_selector("button[data-key=g]")
        signed_in.check(path)
        signed_in.check_width()
        signed_in.check_access() if signed_in.javascript else None


@pytest.mark.parametrize("path", ["/console/none", "/console/experiments/of/nobody", "/console/keys/key/nobody"])
def test_a_missing_page_is_a_page_too(signed_in: WatchedPage, path: str) -> None:
    signed_in.go(path, 404)
    signed_in.check(path)
    signed_in.check_access()


FORMS = ["light", "no script"]


@pytest.mark.parametrize("signed_in", FORMS, indirect=True)
def test_a_key_is_made_limited_rotated_and_revoked(signed_in: WatchedPage, request: pytest.FixtureRequest) -> None:
    page, name = signed_in.page, f"web-{len(request.node.name)}"
    signed_in.go("/console/keys/new")
    page.fill("input[name=name]", name)
    page.fill("input[name=requests_per_day]", "100")
    page.click("main form button.primary")
    secret = page.inner_text("main .hostile")
    assert secret.startswith("sk-assay-")
    signed_in.check()
    signed_in.go("/console/keys")
    page.click(f"main a:has-text('{name}')")
    assert secret not in page.content()
    page.fill("input[name=tokens_per_day]", "5000")
    page.click("button:has-text('Save the limits')")
    page.wait_for_selector("text=tokens_per_day")
    page.click("button:has-text('Disable')")
    page.wait_for_selector("button:has-text('Enable')")
    page.click("button:has-text('Enable')")
    page.click("button:has-text('New secret')")
    assert page.inner_text("main .hostile") != secret
    page.check("input[name=sure]")
    page.click("button:has-text('Revoke')")
    page.wait_for_selector(f"text=the key {name} is revoked")
    signed_in.check()


@pytest.mark.parametrize("signed_in", LOOKS, indirect=True)
def test_a_keys_own_page_in_each_look(signed_in: WatchedPage, request: pytest.FixtureRequest) -> None:
    page = signed_in.page

    def checked() -> None:
        signed_in.check()
        signed_in.check_width()
        signed_in.check_access() if signed_in.javascript else None

    signed_in.go("/console/keys/new")
    page.fill("input[name=name]", "own-" + "".join(filter(str.isalnum, request.node.name)))
    page.fill("input[name=requests_per_day]", "100")
    page.click("main form button.primary")
    secret = page.inner_text("main .hostile")
    signed_in.go("/console/me/login")
    page.fill("input[name=key]", "sk-assay-guess")
    page.click("main form button.primary")
    page.wait_for_selector(".error")
    checked()
    page.fill("input[name=key]", secret)
    page.click("main form button.primary")
    page.wait_for_url(f"{signed_in.origin}/console/me")
    page.wait_for_selector("text=requests per day")
    checked()
    page.click("button:has-text('New secret')")
    assert page.inner_text("main .hostile") != secret
    checked()
    page.click("main a")
    page.wait_for_selector("text=an earlier secret opens this key until")
    checked()
    page.click("button:has-text('Sign out')")
    page.wait_for_url(f"{signed_in.origin}/console/me/login")


@pytest.mark.parametrize("look", ["light", "phone, dark"])
def test_the_pages_of_a_teams_operator(browser: Any, world: ConsoleWorld, look: str) -> None:
    with watched_page(browser, world.url, **LOOKS[look]) as found:
        found.go("/console/login")
        found.page.fill("input[name=token]", TEAM_TOKEN)
        found.page.click("main form button.primary")
        found.page.wait_for_url(f"{world.url}/console/calls")
        for path in ("/console/calls", "/console/runs", "/console/keys", "/console/keys/new", "/console/system/audit"):
            found.go(path)
            found.check(path)
            found.check_width()
            found.check_access()


@pytest.mark.parametrize("signed_in", FORMS, indirect=True)
def test_a_team_is_made_and_deleted(signed_in: WatchedPage, request: pytest.FixtureRequest) -> None:
    page, name = signed_in.page, f"team-{len(request.node.name)}"
    signed_in.go("/console/keys/new-team")
    page.fill("input[name=id]", name)
    page.click("main form button.primary")
    page.wait_for_selector(f"h1:has-text('{name}')")
    page.click("button:has-text('Delete')")
    page.wait_for_selector(f"text=the team {name} is deleted")
    signed_in.check()


@pytest.mark.parametrize("signed_in", FORMS, indirect=True)
def test_an_experiment_is_made_started_stopped_and_removed(
    signed_in: WatchedPage, request: pytest.FixtureRequest
) -> None:
    page, name = signed_in.page, f"try-{len(request.node.name)}"
    signed_in.go("/console/experiments/of/swap")
    if page.query_selector("button:has-text('Stop')"):
        page.click("button:has-text('Stop')")  # it takes the same calls
        page.wait_for_selector("text=is stopped")
    signed_in.go("/console/experiments/new")
    page.fill("input[name=name]", name)
    page.fill("input[name=candidate_model]", "large")
    page.fill("input[name=system]", HOSTILE)
    page.select_option("select[name=primary]", "valid_json")
    page.click("main form button.primary")
    page.wait_for_selector("button:has-text('Stop')")
    signed_in.check()
    page.click("button:has-text('Stop')")
    page.wait_for_selector("button:has-text('Start')")
    page.click("button:has-text('Remove from the config')")
    page.wait_for_selector(f"text={name} is removed from the config")
    signed_in.go("/console/experiments/new")
    page.fill("input[name=name]", name)
    page.fill("input[name=candidate_model]", "large")
    page.fill("input[name=margin]", "wide")
    page.click("main form button.primary")
    page.wait_for_selector(".error >> text=margin")
    signed_in.check()


@pytest.mark.parametrize("signed_in", FORMS, indirect=True)
def test_verdicts_are_given_and_taken_back(signed_in: WatchedPage) -> None:
    page = signed_in.page
    signed_in.go("/console/label")
    page.select_option("select[name=scorer]", "refusal")
    page.click("button:has-text('Open the queue')")
    for button in ("g", "b", "s"):
        page.wait_for_selector(f"button[data-key={button}]")
        item = page.input_value("input[name=item] >> nth=0")
        page.click(f"button[data-key={button}]")
        page.wait_for_selector("button[data-key=u]")
        assert page.input_value("input[name=item] >> nth=0") != item
    for _ in range(3):
        page.click("button[data-key=u]")
        page.wait_for_selector("text=the last verdict is taken back")
    signed_in.check()


def test_a_dead_letter_is_replayed(signed_in: WatchedPage, world: ConsoleWorld) -> None:
    page = signed_in.page
    signed_in.go("/console/system/dead")
    page.check("input[name=id] >> nth=0")
    page.click("button:has-text('Replay the ticked ones')")
    page.wait_for_selector("text=1 replayed")
    signed_in.go("/console/system/audit")
    page.wait_for_selector("text=replay dead letters")
    signed_in.check()


def test_pages_print_on_paper(signed_in: WatchedPage, world: ConsoleWorld) -> None:
    signed_in.page.emulate_media(media="print")
    for path in ("/console/experiments/of/swap", "/console/keys"):
        signed_in.go(path)
        assert len(signed_in.page.pdf()) > 5_000
    signed_in.check()
