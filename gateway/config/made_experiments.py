"""The experiments that the console and `gateway ab draft` made: a file next to gateway.yaml, read and watched with it.

gateway.yaml itself belongs to the people who write it, with their comments and their order; a program does not change
it. The file next to it holds nothing but a section `experiments`. An experiment of the same name in gateway.yaml wins,
so that one can be moved there by copying it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.core.errors import ConfigError

SECTION = "experiments"
_HEAD = """\
# Experiments that were made in the console or by `gateway ab draft --write`, which read and write this file. Where
# gateway.yaml has the same name, it wins.
"""


@dataclass(frozen=True, slots=True)
class MadeExperiments:
    """The file as it was read."""

    path: Path
    text: str = ""
    """The text of the file; "" if it does not exist."""

    def sections(self) -> dict[str, Any]:
        """The sections of the experiments by name. Raises ConfigError. ${NAME} is not expanded here."""
        try:
            raw = yaml.safe_load(self.text) if self.text else {}
        except yaml.YAMLError as error:
            raise ConfigError([f"{self.path.name}: not YAML: {' '.join(str(error).split())}"]) from error
        found = raw.get(SECTION) if isinstance(raw, dict) else None
        if raw and (not isinstance(raw, dict) or set(raw) != {SECTION} or not isinstance(found, dict | None)):
            raise ConfigError([f"{self.path.name}: expected nothing but a section `{SECTION}`"])
        return dict(found or {})

    def merged_into(self, raw: dict[str, Any]) -> dict[str, Any]:
        """The sections of gateway.yaml with these experiments. Raises ConfigError."""
        made, own = self.sections(), raw.get(SECTION)
        if not made or not isinstance(own, dict | None):
            return raw
        return {**raw, SECTION: {**made, **(own or {})}}

    def with_experiment(self, name: str, section: Mapping[str, Any] | None) -> MadeExperiments:
        """The file with one experiment added or replaced; None if removed. Raises ConfigError."""
        sections = {other: each for other, each in self.sections().items() if other != name}
        if section is not None:
            sections[name] = dict(section)
        return MadeExperiments(self.path, file_text(sections))

    def write(self) -> None:
        """Replaces the file at once, with the mode of gateway.yaml's owner. Raises OSError."""
        own = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        own.write_text(self.text, encoding="utf-8")
        own.replace(self.path)


def made_path(config: Path) -> Path:
    """gateway.experiments.yaml for gateway.yaml."""
    return config.with_name(f"{config.stem}.{SECTION}.yaml")


def read_made(config: Path) -> MadeExperiments:
    """config: the path of gateway.yaml. Raises ConfigError."""
    path = made_path(config)
    try:
        return MadeExperiments(path, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return MadeExperiments(path)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text: {error}"]) from error


def file_text(sections: Mapping[str, Any]) -> str:
    """The text of the file; also what can be pasted into gateway.yaml."""
    return _HEAD + yaml.safe_dump({SECTION: dict(sections)}, sort_keys=False, allow_unicode=True, width=110)
