"""The colours of pages: each that text has reaches a contrast of 4.5 on both backgrounds, in both themes."""

from __future__ import annotations

import re

import pytest

from gateway.reports.html import style_sheet

TEXT = ("ink", "soft", "link", "good", "open", "bad", "candidate", "control")


def themes() -> dict[str, dict[str, str]]:
    """The colours by theme and name."""
    light, dark = style_sheet("shared").split("prefers-color-scheme: dark")
    found = {
        name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text))
        for name, text in (("light", light), ("dark", dark))
    }
    return {"light": found["light"], "dark": {**found["light"], **found["dark"]}}


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_on_each_background(theme: str) -> None:
    colours = themes()[theme]
    for name in TEXT:
        for background in ("paper", "panel"):
            assert contrast(colours[name], colours[background]) >= 4.5, (theme, name, background)


def test_the_page_of_rules_has_the_contrasts() -> None:
    """The table in docs/contributing/design.md."""
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "contributing" / "design.md").read_text()
    found = themes()
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| `(#\w+)`, ([\d.]+) \| `(#\w+)`, ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) >= 7
    for name, light, on_light, dark, on_dark in rows:
        assert (light, dark) == (found["light"][name], found["dark"][name])
        for theme, colour, stated in (("light", light, on_light), ("dark", dark, on_dark)):
            assert float(stated) == pytest.approx(contrast(colour, found[theme]["paper"]), abs=0.05), (name, theme)
