"""`.ci/collect_changes.py`: the fragments of changes/ are well formed, and become a section of the changelog."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / ".ci" / "collect_changes.py"
FRAGMENTS = "changes/*.md"
CHANGELOG = """# Changelog

## [Unreleased]

### Changed

- old change

### Fixed

- old fix,
  on two lines

## [0.1.0] - 2026-11-29

- first
"""
_PROGRAM = runpy.run_path(str(PROGRAM))
problems: Callable[[Path], list[str]] = _PROGRAM["problems"]
collected: Callable[..., str] = _PROGRAM["collected"]
pytestmark = pytest.mark.quick


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the program, a changelog and two fragments."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(PROGRAM, tmp_path / ".ci")
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "README.md").write_text("# One file for each change\n")
    (tmp_path / "changes" / "b.md").write_text("### Fixed\n\n- new fix\n")
    (tmp_path / "changes" / "a.md").write_text("### Added\n\n- new thing\n\n### Fixed\n\n- its fix\n")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def run(checkout: Path, version: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, checkout / ".ci" / "collect_changes.py", version]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_fragments_of_this_repository_are_well_formed() -> None:
    assert problems(ROOT) == []
    assert set(ROOT.glob(FRAGMENTS)) == set((ROOT / "changes").iterdir()), "another kind of file"


def test_the_present_changelog_can_be_collected() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]\n\n## [9.9.9] - 2026-12-01\n\n" in collected(text, [], "9.9.9", date(2026, 12, 1))


def test_a_release_gathers_entries_by_section(checkout: Path) -> None:
    """Sections stand in the order of Keep a Changelog, entries of [Unreleased] first; the fragments are gone."""
    done = run(checkout, "0.2.0")
    assert done.stdout == "CHANGELOG.md: [0.2.0] with the entries of [Unreleased] and of 2 files\n", done.stderr
    added = "### Added\n\n- new thing\n\n### Changed\n\n- old change\n\n"
    fixed = "### Fixed\n\n- old fix,\n  on two lines\n- its fix\n- new fix\n\n"
    head, released = re.split(r"## \[0\.2\.0\] - \d{4}-\d\d-\d\d\n\n", (checkout / "CHANGELOG.md").read_text())
    assert head == "# Changelog\n\n## [Unreleased]\n\n"
    assert released == f"{added}{fixed}## [0.1.0] - 2026-11-29\n\n- first\n"
    assert [path.name for path in (checkout / "changes").iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- no section\n", 'expected a section first, as "### Added", found "- no section"'),
        ("### New\n\n- x\n", '"### New" is not one of Highlights, Added, Changed'),
        ("### Fixed\n\nprose\n", 'expected entries below "### Fixed"'),
        ("\n", "it is empty"),
    ],
)
def test_a_malformed_fragment_is_named_and_nothing_written(checkout: Path, text: str, words: str) -> None:
    (checkout / "changes" / "c.md").write_text(text)
    done = run(checkout, "0.2.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("changes/c.md: ")
    assert words in done.stderr
    assert (checkout / "CHANGELOG.md").read_text() == CHANGELOG
    assert len(list((checkout / "changes").iterdir())) == 4


def test_a_version_that_is_none_is_an_error_of_usage(checkout: Path) -> None:
    assert run(checkout, "next").returncode == 2


def test_highlights_are_ten_lines_at_most_and_come_first(checkout: Path) -> None:
    shutil.copy(ROOT / "changes" / "highlights.md", checkout / "changes" / "highlights.md")
    lines = [line for line in (ROOT / "changes" / "highlights.md").read_text().splitlines() if line.startswith("- ")]
    assert 1 <= len(lines) <= 10
    assert run(checkout, "0.2.0").returncode == 0
    released = (checkout / "CHANGELOG.md").read_text().partition("## [0.2.0]")[2]
    assert released.index("### Highlights") < released.index(lines[0]) < released.index("### Added")
