"""Moves what is below [Unreleased] and the fragments of changes/ to a section of CHANGELOG.md.

    python .ci/collect_changes.py X.Y.Z

Needs Python 3.11 alone. docs/contributing/releasing.md is the checklist; changes/README.md has the form of a fragment.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

SECTIONS = ("Highlights", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
_UNRELEASED = re.compile(r"^## \[Unreleased\][ \t]*\n(.*?)(?=^## \[|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^### (.*)\n", re.MULTILINE)


class MalformedFragment(ValueError):
    """A text that is not sections of entries. The message says what was expected."""


def fragments(root: Path) -> list[Path]:
    return sorted(path for path in (root / "changes").glob("*.md") if path.name != "README.md")


def entries(text: str) -> dict[str, list[str]]:
    """The lists of entries by section. Raises MalformedFragment."""
    before, *parts = _HEADING.split(text)
    if before.strip() or (text.strip() and not parts):
        raise MalformedFragment(f'expected a section first, as "### Added", found "{text.strip().splitlines()[0]}"')
    found: dict[str, list[str]] = {}
    for section, body in zip(parts[::2], parts[1::2], strict=True):
        if section not in SECTIONS:
            raise MalformedFragment(f'"### {section}" is not one of {", ".join(SECTIONS)}')
        if not re.match(r"- \S", body.strip()):
            raise MalformedFragment(f'expected entries below "### {section}", as "- What is new."')
        found.setdefault(section, []).append(body.strip())
    return found


def problems(root: Path) -> list[str]:
    """A line for each fragment that cannot be collected."""
    found = []
    for path in fragments(root):
        try:
            if not entries(path.read_text(encoding="utf-8")):
                found.append(f"changes/{path.name}: it is empty")
        except MalformedFragment as error:
            found.append(f"changes/{path.name}: {error}")
    return found


def collected(changelog: str, texts: Iterable[str], version: str, day: date) -> str:
    """The changelog with a section of this version. Entries below [Unreleased] come before those of fragments."""
    unreleased = _UNRELEASED.search(changelog)
    if unreleased is None:
        raise MalformedFragment("CHANGELOG.md: expected a section ## [Unreleased]")
    merged: dict[str, list[str]] = {}
    for text in (unreleased[1], *texts):
        for section, lists in entries(text).items():
            merged.setdefault(section, []).extend(lists)
    released = f"## [Unreleased]\n\n## [{version}] - {day}\n\n{_written(merged)}"
    return changelog[: unreleased.start()] + released + changelog[unreleased.end() :]


def _written(merged: Mapping[str, list[str]]) -> str:
    return "".join(f"### {name}\n\n" + "\n".join(merged[name]) + "\n\n" for name in SECTIONS if name in merged)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("version", help="X.Y.Z")
    root, version = Path(__file__).parents[1], parser.parse_args().version
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        parser.error(f"expected X.Y.Z, not {version}")
    if found := problems(root):
        sys.stderr.write("".join(f"{line}\n" for line in found))
        return 1
    paths, changelog = fragments(root), root / "CHANGELOG.md"
    texts = [path.read_text(encoding="utf-8") for path in paths]
    changelog.write_text(
        collected(changelog.read_text(encoding="utf-8"), texts, version, date.today()), encoding="utf-8"
    )
    for path in paths:
        path.unlink()
    sys.stdout.write(f"CHANGELOG.md: [{version}] with the entries of [Unreleased] and of {len(paths)} files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
