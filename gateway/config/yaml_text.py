"""The text of gateway.yaml → plain values: YAML in which no key stands twice, with ${NAME} read from the environment.

config.py knows the sections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gateway.core.errors import ConfigError

if TYPE_CHECKING:
    from yaml import SafeLoader as _Base
else:
    # libyaml's, where PyYAML has it: a sixth of the time, and half the memory that stays with the process.
    _Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def contents(path: Path) -> str:
    """A file's text. Raises ConfigError when there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text: {error}"]) from error


def read(text: str, name: str, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The sections, and one mistake for each ${NAME} that is not set. Raises ConfigError for what is no mapping."""
    try:
        raw = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that also refuses duplicate keys
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}: not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(raw, dict):
        raise ConfigError([f"{name}: expected sections such as models and upstreams, got {type(raw).__name__}"])
    mistakes: list[str] = []
    return _expand(raw, "", environ, mistakes), mistakes


def add_told(raw: dict[str, Any], engines: str, digest: str) -> None:
    """What `gateway up` tells the programs it starts through their environment, and no file says.

    engines: "local=http://127.0.0.1:41234/v1 other=…", where the engines of upstreams with a `run` are. digest: the
    SHA-256 of the key that it made, for a file without keys. Either may be empty.
    """
    upstreams = raw.get("upstreams")
    for place in engines.split():
        name, _, url = place.partition("=")
        upstream = upstreams.get(name) if isinstance(upstreams, dict) else None
        if isinstance(upstream, dict) and "run" in upstream:
            upstream["base_url"] = url
    if digest and not raw.get("keys") and not raw.get("open"):
        raw["keys"] = [{"name": "up", "sha256": digest}]


class _Loader(_Base):
    """YAML lets a key stand twice and keeps the last in silence; here that is a mistake. `on`, `off`, `yes` and `no`
    are words, as in YAML 1.2 (section 10.3.2): a fallback says `on: [error]`, and on_cut may be off."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:bool"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def _expand(value: Any, path: str, environ: Mapping[str, str], mistakes: list[str]) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, f"{path}.{k}" if path else str(k), environ, mistakes) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, f"{path}[{i}]", environ, mistakes) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def read(match: re.Match[str]) -> str:
        name = match[1]
        if not environ.get(name):
            mistakes.append(f"{path}: ${name} is not set. Set it, or remove what names it")
        return environ.get(name, "")

    return _VARIABLE.sub(read, value)
