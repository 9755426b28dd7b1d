"""Makes docs/images/console-*.png from a running gateway: python tests/console/browser/screenshots.py [FOLDER]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fixtures.browsers import WatchedPage, chromium, watched_page  # noqa: E402 - the path is set above
from fixtures.console_tour import (  # noqa: E402
    RunningTour,
    label,
    make_key,
    make_team,
    running_tour,
    start_experiment,
)

MOST_BYTES = 150_000
SIZE = {"width": 1120, "height": 700}


def fill(tour: RunningTour, page: WatchedPage) -> None:
    page.page.goto(tour.login)
    page.page.wait_for_selector("nav[aria-label=Pages]")
    for team, dollars in (("search", "0.05"), ("support", "40"), ("research", "200")):
        make_team(page, team, dollars)
    keys = {
        "search-web": make_key(page, "search-web", "search", requests_per_day="300"),
        "support-bot": make_key(page, "support-bot", "support", tokens_per_day="500000"),
        "notebooks": make_key(page, "notebooks", "research"),
    }
    tour.send(260, keys["search-web"])
    tour.send(120, keys["support-bot"])
    tour.send(60, keys["notebooks"], "chat-large")
    page.go("/console")
    start_experiment(page)
    tour.until("SELECT count(*) FROM plans WHERE state = 'running'", lambda n: n == 1)
    for _ in range(60):
        tour.send(20, keys["support-bot"])
        if tour.until("SELECT count(*) FROM pairs WHERE place IS NOT NULL", lambda n: n is not None) >= 250:
            break
    label(page, 14)


def take(tour: RunningTour, page: WatchedPage, folder: Path) -> None:
    with_shadow = "SELECT pair FROM exchanges WHERE pair IS NOT NULL ORDER BY received DESC LIMIT 1"
    call = tour.until(with_shadow, lambda id: id is not None)
    pages = {
        "today": "/console",
        "calls": "/console/calls",
        "call": f"/console/calls/{call}",
        "experiment": "/console/experiments/of/larger",
        "label": "/console/label/queue?scorer=valid_json",
        "keys": "/console/keys",
        "system": "/console/system",
    }
    for name, path in pages.items():
        page.go(path)
        page.page.wait_for_load_state("networkidle")
        file = folder / f"console-{name}.png"
        page.page.screenshot(path=str(file))
        size = file.stat().st_size
        print(f"{file}: {size / 1000:.0f} kB{' (too large)' if size > MOST_BYTES else ''}")  # noqa: T201 - a script
    page.check()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        running_tour(Path(name)) as tour,
        chromium() as browser,
        watched_page(browser, tour.console, viewport=SIZE, color_scheme="light") as page,
    ):
        fill(tour, page)
        take(tour, page, folder)


if __name__ == "__main__":
    main()
