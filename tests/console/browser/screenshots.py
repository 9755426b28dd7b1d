"""Makes docs/images/*.png from a console with an ordinary week: python tests/console/browser/screenshots.py [FOLDER].

Without a folder, the pictures that the documentation shows (SHOWN) go to docs/images; with one, all pages in all four
looks: 1 280 and 390 px, light and dark. Each page is checked in each look, whether it is kept or not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fixtures.browsers import WatchedPage, chromium, sign_in, watched_page  # noqa: E402 - the path is set above
from fixtures.console_world import TOKEN, ConsoleWorld  # noqa: E402
from fixtures.ordinary_week import ordinary_week  # noqa: E402

from gateway.features.experiments.report.build import report_of  # noqa: E402
from gateway.store.query import reading  # noqa: E402
from gateway.verdict.report.html import to_html  # noqa: E402

MOST_BYTES = 210_000
DESK = ("today", "calls", "call", "experiments", "experiment", "guards", "label", "keys", "system", "design")
SHOWN = {f"console-{name}.png" for name in DESK}
SHOWN |= {f"console-today{look}.png" for look in ("-dark", "-phone", "-phone-dark")}
"""The pictures that a page of docs/ shows."""
WIDTHS = {"": (1280, 900), "-phone": (390, 844)}
SCHEMES = {"": "light", "-dark": "dark"}


def pages(world: ConsoleWorld) -> dict[str, str]:
    """Each page by the name of its picture."""
    return {
        "today": "/console",
        "calls": "/console/calls",
        "call": f"/console/calls/{world.exchange}",
        "failures": "/console/failures",
        "runs": "/console/runs",
        "experiments": "/console/experiments",
        "experiment": "/console/experiments/of/larger",
        "experiment-new": "/console/experiments/new",
        "routes": "/console/routes",
        "label": "/console/label/queue?scorer=right",
        "labels": "/console/label",
        "predictor": "/console/predictor",
        "guards": "/console/guards",
        "guard": "/console/guards/of/injection",
        "keys": "/console/keys",
        "system": "/console/system",
        "config": "/console/system/config",
        "dead": "/console/system/dead",
        "audit": "/console/system/audit",
        "design": "/console/system/design",
        "playground": "/console/playground",
    }


def take(page: WatchedPage, world: ConsoleWorld, look: str, folder: Path, every: bool) -> None:
    known = pages(world)
    further = {path.rpartition("/")[2]: path for path in page.navigation() if path not in known.values()}
    for name, path in {**known, **further}.items():
        page.go(path)
        while page.page.query_selector("progress#summed"):
            page.go(path)
        page.page.wait_for_load_state("networkidle")
        file = folder / f"console-{name}{look}.png"
        if every or file.name in SHOWN:
            picture(page.page, file)
        page.check(path)
        page.check_width()
        page.check_access()


def picture(of: Any, file: Path) -> None:
    of.screenshot(path=str(file))
    size = file.stat().st_size
    print(f"{file}: {size / 1000:.0f} kB{' (too large)' if size > MOST_BYTES else ''}")  # noqa: T201 - a script


def report(browser: Any, world: ConsoleWorld, folder: Path, options: dict[str, Any], look: str) -> None:
    """The report as a file; the documentation's own picture of one is of `make demo`."""
    file = folder / "report.html"
    with reading(world.store_url) as connection:
        file.write_text(to_html(report_of(connection, "larger")), encoding="utf-8")
    with watched_page(browser, "file://", **options) as page:
        page.page.goto(file.as_uri())
        picture(page.page, folder / f"report{look}.png")
        page.check()
        page.check_width()
        page.check_access()
    file.unlink()


def main() -> None:
    every = len(sys.argv) > 1
    folder = Path(sys.argv[1]) if every else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, ordinary_week(Path(name)) as world, chromium() as browser:
        for phone, (width, height) in WIDTHS.items():
            for dark, scheme in SCHEMES.items():
                options: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
                with watched_page(browser, world.url, **options) as page:
                    sign_in(page, TOKEN)
                    take(page, world, f"{phone}{dark}", folder, every)
                if every:
                    report(browser, world, folder, options, f"{phone}{dark}")


if __name__ == "__main__":
    main()
