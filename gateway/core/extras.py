"""Optional parts of the installation: which sections of the config need which, and whether they are installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of the package, and a config that needs it."""

    name: str
    """Name as in install_command."""
    needs: str
    """Description of what it installs, for messages."""
    modules: tuple[str, ...]
    section: str
    """Path in gateway.yaml; `*` stands for every name. Needed where the value is neither missing, empty nor false."""
    value: str = ""
    """A regular expression for the beginning of the value; "": any."""

    @property
    def installed(self) -> bool:
        return all(map(_importable, self.modules))


def install_command(extra: str) -> str:
    """The command that installs the package with an extra: in a checkout, and from an index that has it."""
    return f'pip install ".[{extra}]" in a checkout (once it is on an index: pip install "assay-gateway[{extra}]")'


def missing_extras(config: object, extras: Iterable[Extra]) -> list[str]:
    """A line for each section of the config that needs an extra which is not installed, with the command."""
    return [
        f"{path}: needs {extra.needs}: {install_command(extra.name)}"
        for extra in extras
        for path, value in _values(config, extra.section.split("."))
        if value and re.match(extra.value, str(value)) and not extra.installed
    ]


def _values(section: object, path: Sequence[str], walked: str = "") -> Iterator[tuple[str, Any]]:
    if not path:
        yield walked, section
    elif isinstance(section, Mapping):
        for name, child in section.items():
            yield from _values(child, path[1:], f"{walked}.{name}")
    elif section is not None:
        yield from _values(getattr(section, path[0]), path[1:], f"{walked}.{path[0]}".lstrip("."))


def _importable(module: str) -> bool:
    """Whether the module can be found. Only packages above it are imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
