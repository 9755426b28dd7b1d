"""A report's first screen as a picture, where this machine has a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.browsers import missing

from gateway.core.errors import CannotRun
from gateway.reports import png
from gateway.verdict.report.html import to_html


@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_the_first_screen_is_drawn_as_a_picture(report: Any, tmp_path: Path) -> None:
    picture = tmp_path / "report.png"
    png.write_png(to_html(report()), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
    assert picture.stat().st_mode & 0o777 == 0o600


def test_without_a_browser_the_other_way_is_named(report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match=r"none of chromium, .* was found; --html FILE writes the page"):
        png.write_png(to_html(report("nothing")), tmp_path / "report.png")
