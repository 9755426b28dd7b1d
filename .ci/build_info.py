"""Build hook of hatchling: adds gateway/build.json, which `gateway --version` shows, to the wheel and the archive.

It has the commit and the commit's date, so that two builds of a commit have the same bytes. Without git (an image, a
source archive) they come from $GATEWAY_COMMIT and $GATEWAY_COMMIT_DATE, or from the file that the archive has.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "gateway/build.json"


def build_info(root: Path) -> dict[str, str]:
    """The commit and its date; empty if they are not known. A checkout with changes has a plus sign."""
    given = {"commit": os.environ.get("GATEWAY_COMMIT", ""), "date": os.environ.get("GATEWAY_COMMIT_DATE", "")}
    if all(given.values()):
        return given
    if not (root / ".git").exists():
        return {}
    try:
        commit, date = _git(root, "log", "-1", "--format=%h %cs", "--abbrev=12").split()
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError, ValueError):
        return {}
    return {"commit": f"{commit}+" if changed else commit, "date": date}


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


class BuildInfo(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the file to what is built, apart from editable installs, whose checkout says it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if version == "editable" or (root / NAME).exists() or not (found := build_info(root)):
            return
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / "build.json"
        file.write_text(json.dumps(found) + "\n", encoding="utf-8")
        file.chmod(0o644)
        build_data["force_include"][str(file)] = NAME
