"""Modules with the user's own scorers: a file or a package in the folder of gateway.yaml is importable."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path


def reach_modules(names: Iterable[str], folder: Path) -> None:
    """Appends the folder to the Python path if it has one of these modules and nothing else does.

    The folder is last, so that a file in it never stands in for an installed module. names: as in an import statement.
    """
    path = str(folder.resolve())
    if path not in sys.path and any(_only_there(name.partition(".")[0], path) for name in names):
        sys.path.append(path)


def _only_there(name: str, path: str) -> bool:
    return (
        name not in sys.modules
        and PathFinder.find_spec(name) is None
        and PathFinder.find_spec(name, [path]) is not None
    )
