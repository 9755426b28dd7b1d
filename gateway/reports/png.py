"""A report's page as a picture, by the browser of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from gateway.core.complete_file import write_private
from gateway.core.errors import CannotRun

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")
WIDTH, HEIGHT = 1280, 1800
"""Pixels of the picture: the first screen of a report."""
_TIMEOUT_S = 60.0


def browser() -> str | None:
    """The program of a browser that makes pictures; None if there is none."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def write_png(html: str, path: Path) -> None:
    """Writes the first screen of a page. The browser has no network: the page loads nothing. Raises CannotRun."""
    program = browser()
    if program is None:
        raise CannotRun(f"{path} cannot be made: none of {', '.join(BROWSERS)} was found; --html FILE writes the page")
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder) / "report.html", Path(folder) / "report.png"
        write_private(page, html)
        _run(program, Path(folder), page, picture)
        if not picture.exists():
            raise CannotRun(f"{path} cannot be made: {program} made no picture")
        try:
            shutil.move(picture, path)
            path.chmod(0o600)
        except OSError as error:
            raise CannotRun(f"{path} cannot be written: {error.strerror}") from error


def _run(program: str, folder: Path, page: Path, picture: Path) -> None:
    """Raises CannotRun."""
    rooted = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # Chromium refuses root otherwise
    command = [
        *(program, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", *rooted),
        *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"),
        *(f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", page.as_uri()),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)  # noqa: S603 - no shell
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotRun(f"{page.name} cannot be drawn: {program} failed: {type(error).__name__}") from error
