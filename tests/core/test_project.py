"""The addresses of the project come from the metadata of the installed package, the commit from its build."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

from gateway import __version__
from gateway.core.project import DISTRIBUTION, project_address, version_line


def test_an_address_that_the_package_lacks_is_empty() -> None:
    assert project_address("No such label") == ""


def test_every_address_of_the_metadata_is_found() -> None:
    for line in metadata(DISTRIBUTION).get_all("Project-URL") or []:
        label, _, address = line.partition(", ")
        assert project_address(label) == address


def test_a_build_names_its_commit_and_date(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    assert version_line(tmp_path / "gateway") == f"{__version__} (commit unknown)"
    (tmp_path / "gateway" / "build.json").write_text('{"commit": "0123456789ab", "date": "2026-12-03"}')
    assert version_line(tmp_path / "gateway") == f"{__version__} (commit 0123456789ab of 2026-12-03)"


def test_a_checkout_names_its_newest_commit() -> None:
    line = version_line(Path(__file__).parents[2] / "gateway")
    found = r" \((checkout of commit [0-9a-f]{12} of \d{4}-\d\d-\d\d|commit unknown)\)"
    assert re.fullmatch(re.escape(__version__) + found, line)
