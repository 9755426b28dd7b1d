"""Says whether this commit may be released as a tag, or prints a line for each thing that is missing.

Cautions go to stderr: what the calendar makes old keeps no release from being made.

    python .ci/release_check.py vX.Y.Z

Needs Python 3.11 alone. The workflow `release` runs it first; docs/contributing/releasing.md is the checklist.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

RETIREMENTS = "gateway/core/list_retirements.json"
NOTICE_DAYS = 90
URLS = ("Source", "Documentation", "Issues", "Changelog")
_COLLECT = "python .ci/collect_changes.py"
_VERSION = re.compile(r'^__version__ = "(\d+\.\d+\.\d+)"$', re.MULTILINE)
_SECTION = re.compile(r"^## \[([^\]]+)\](?: - (\S+))?[ \t]*$", re.MULTILINE)
_ABOUT_RETIREMENT = re.compile(r"^## When must I switch\?\n.*?(?=^## )", re.MULTILINE | re.DOTALL)  # names old models
_NAMING = {  # files that name the version, and how
    "deploy/kubernetes/base/kustomization.yaml": r"newTag: (\S+?)}",
    "deploy/bench/assay-gateway/build.sh": r"assay-gateway==([\d.]+)",
    "deploy/helm/assay-gateway/Chart.yaml": r"(?m)^(?:appVersion|version): (\S+)$",
}


def missing(root: Path, tag: str) -> Iterator[str]:
    """What keeps the checkout at `root` from being released as this tag."""
    found = _VERSION.search((root / "gateway" / "__init__.py").read_text(encoding="utf-8"))
    version = found[1] if found else "no X.Y.Z"
    if tag != f"v{version}":
        yield f"gateway/__init__.py: the version is {version} and the tag {tag}: set __version__, or tag v{version}"
    yield from _changelog(root, version)
    yield from _metadata(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"])
    for name, pattern in _NAMING.items():
        for other in re.findall(pattern, (root / name).read_text(encoding="utf-8")):
            if other != version:
                yield f"{name}: names {other}; set it to {version}"


def _changelog(root: Path, version: str) -> Iterator[str]:
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = list(_SECTION.finditer(text))
    names = [each[1] for each in sections]
    if names[:2] != ["Unreleased", version]:
        yield f"CHANGELOG.md: expected the sections [Unreleased] and [{version}] first, found {', '.join(names[:2])}"
        return
    if text[sections[0].end() : sections[1].start()].strip():
        yield f"CHANGELOG.md: there are entries below [Unreleased]: {_COLLECT} {version} moves them"
    for path in sorted((root / "changes").glob("*.md")):
        if path.name != "README.md":
            yield f"changes/{path.name}: it is not in CHANGELOG.md: {_COLLECT} {version} moves it there"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", sections[1][2] or ""):
        yield f"CHANGELOG.md: [{version}] has no date: write ## [{version}] - YYYY-MM-DD"


def _metadata(project: dict[str, Any]) -> Iterator[str]:
    for name in ("description", "readme", "license", "requires-python", "keywords", "classifiers", "authors"):
        if not project.get(name):
            yield f"pyproject.toml: project.{name} is missing"
    urls = project.get("urls", {})
    for name in URLS:
        url = urls.get(name, "")
        if not re.fullmatch(r"https://\S+", url) or re.search(r"OWNER|NAME|example\.", url):
            yield f"pyproject.toml: project.urls.{name} is {url or 'missing'}; expected the public address (https://…)"


def cautions(root: Path, today: date) -> Iterator[str]:
    """Models that the pages name and that their providers retire soon, and the age of the list of retirements."""
    listed = json.loads((root / RETIREMENTS).read_text(encoding="utf-8"))
    age = (today - date.fromisoformat(listed["date"])).days
    if age > NOTICE_DAYS:
        yield f"{RETIREMENTS}: the list is {age} days old: read the providers' pages again"
    days = {model: day for rows in listed["retirements"].values() for model, (day, _) in rows.items()}
    for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        text = _ABOUT_RETIREMENT.sub("", page.read_text(encoding="utf-8"))
        for model in sorted(set(re.findall(r"\bmodel: ([\w.:-]*\w)", text)) & set(days)):
            if (date.fromisoformat(days[model]) - today).days < NOTICE_DAYS:
                yield f"{page.name}: {model} retires on {days[model]}: name its successor"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tag", help="vX.Y.Z")
    root = Path(__file__).parents[1]
    problems = list(missing(root, parser.parse_args().tag))
    sys.stderr.write("".join(f"caution: {line}\n" for line in cautions(root, date.today())))
    sys.stdout.write("".join(f"{each}\n" for each in problems) or "ready\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
