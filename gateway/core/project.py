"""The project's addresses, which `[project.urls]` in pyproject.toml alone has, and the commit of this build."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

DISTRIBUTION = "assay-gateway"


def project_address(label: str) -> str:
    """The address with this label, such as "Documentation"; "" if the installed package has none."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        lines = metadata(DISTRIBUTION).get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    named = (line.partition(", ") for line in lines)
    return next((address for name, _, address in named if name == label), "")


def version_line(package: Path = Path(__file__).parents[1]) -> str:
    """The version with the commit that was built and its date; of a checkout, with its newest commit.

    package: the folder `gateway`.
    """
    from gateway import __version__

    try:
        built = json.loads((package / "build.json").read_text(encoding="utf-8"))
    except OSError:
        return f"{__version__} ({_checkout(package.parent)})"
    return f"{__version__} (commit {built['commit']} of {built['date']})"


def _checkout(root: Path) -> str:
    """The newest commit of a checkout; without git, or outside one, the commit is unknown."""
    if not (root / ".git").exists():
        return "commit unknown"
    command = ["git", "-C", str(root), "log", "-1", "--abbrev=12", "--format=checkout of commit %h of %cs"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "commit unknown"
