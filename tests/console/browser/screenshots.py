"""Makes docs/images/*.png from a console with an ordinary week: python tests/console/browser/screenshots.py [FOLDER].

Each page at 1 280 and 390 px, light and dark; those that the documentation shows are 1 280 px and light, and are named
without their look.
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

MOST_BYTES = 200_000
STORY = {
    "1-call": ("call", "#answer + .judged"),
    "2-ramp": ("experiment", "#ramp"),
}
"""Stills of the README beside the page of the experiment: a page, and the part of it that is shown."""
WIDTHS = {"": (1280, 900), "-phone": (390, 844)}
SCHEMES = {"": "light", "-dark": "dark"}


def pages(world: ConsoleWorld) -> dict[str, str]:
    return {
        "today": "/console",
        "calls": "/console/calls",
        "call": f"/console/calls/{world.exchange}",
        "experiments": "/console/experiments",
        "experiment": "/console/experiments/of/larger",
        "label": "/console/label/queue?scorer=right",
        "keys": "/console/keys",
        "system": "/console/system",
        "design": "/console/system/design",
    }


def take(page: WatchedPage, world: ConsoleWorld, look: str, folder: Path) -> None:
    for name, path in pages(world).items():
        page.go(path)
        while page.page.query_selector("progress#summed"):
            page.go(path)
        page.page.wait_for_load_state("networkidle")
        file = folder / f"console-{name}{look}.png"
        page.page.screenshot(path=str(file))
        size = file.stat().st_size
        print(f"{file}: {size / 1000:.0f} kB{' (too large)' if size > MOST_BYTES else ''}")  # noqa: T201 - a script
        page.check(path)
        page.check_width()
        page.check_access()


def tell(page: WatchedPage, world: ConsoleWorld, folder: Path) -> None:
    """The story besides the verdict: a judged call, and the ramp."""
    for name, (of, part) in STORY.items():
        page.go(pages(world)[of])
        page.page.wait_for_load_state("networkidle")
        page.page.query_selector(part).screenshot(path=str(folder / f"story-{name}.png"))


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, ordinary_week(Path(name)) as world, chromium() as browser:
        for phone, (width, height) in WIDTHS.items():
            for dark, scheme in SCHEMES.items():
                options: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
                with watched_page(browser, world.url, **options) as page:
                    sign_in(page, TOKEN)
                    take(page, world, f"{phone}{dark}", folder)
                    if not phone and not dark:
                        tell(page, world, folder)


if __name__ == "__main__":
    main()
