"""The text of gateway.yaml → plain values: YAML without duplicate keys, ${NAME} read from the environment, and
${file:/PATH} from a file.

Knows no section: config.py does.
"""

from __future__ import annotations

import hashlib
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


def read_config_text(path: Path) -> str:
    """Raises ConfigError if the file cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text: {error}"]) from error


def parse_yaml(
    text: str, name: str, environ: Mapping[str, str], unread: re.Pattern[str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Returns the sections, and one mistake for each ${NAME} that is not set.

    unread: the paths of values whose variables and files are not read; such a value is a text that says so. Raises
    ConfigError if the text is not YAML, or not a mapping.
    """
    mistakes: list[str] = []
    return _expand(yaml_sections(text, name), "", _Values(environ, mistakes, unread)), mistakes


def yaml_sections(text: str, name: str) -> dict[str, Any]:
    """The sections as they are written, with ${NAME} unexpanded. Raises as parse_yaml does."""
    try:
        raw = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that also refuses duplicate keys
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}: not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(raw, dict):
        raise ConfigError([f"{name}: expected sections such as models and upstreams, got {type(raw).__name__}"])
    check_aliases(raw, name)
    return raw


def check_aliases(raw: Any, name: str) -> None:
    """Raises ConfigError where aliases (`*anchor`) contain themselves, or make a small file a huge one.

    Written out, nine levels of nine are 387 million values.
    """
    sizes: dict[int, int] = {}
    if _written_out(raw, sizes, set(), name) > _MOST_WRITTEN_OUT + 20 * len(sizes):
        raise ConfigError([f"{name}: its aliases (*name) stand for too many values; write out what they name"])


def _written_out(value: Any, sizes: dict[int, int], within: set[int], name: str) -> int:
    """The values in this one, each as often as it is named. sizes: of those that have been counted, by id."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) in within:
        raise ConfigError([f"{name}: an alias (*name) is within its own anchor (&name)"])
    if id(value) not in sizes:
        within.add(id(value))
        inner = value.values() if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_written_out(each, sizes, within, name) for each in inner)
        within.remove(id(value))
    return sizes[id(value)]


class _Loader(_Base):
    """YAML silently keeps the last of duplicate keys; here they are an error. `on`, `off`, `yes` and `no` are strings,
    as in YAML 1.2 (section 10.3.2): a fallback has `on: [error]`, and `on_cut` may be `off`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`, resolved by the base class
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


def _timestamp(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """The day or time; its text where the calendar has no such day: the key that it belongs to then says what it
    expects."""
    try:
        return _Base.construct_yaml_timestamp(loader, node)
    except ValueError:
        return node.value


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:bool"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)

_MOST_WRITTEN_OUT = 100_000
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_FILE = "file:"
_MAX_SECRET_BYTES = 1 << 16


def secret_files(text: str) -> tuple[Path, ...]:
    """The files that a text takes values from by ${file:/PATH}."""
    named = {name.removeprefix(_FILE) for name in _VARIABLE.findall(text) if name.startswith(_FILE)}
    return tuple(map(Path, sorted(named)))


def _from_file(file: Path, path: str, mistakes: list[str]) -> str:
    """The content of a secret's file, without the line break at its end."""
    if not file.is_absolute():
        mistakes.append(f"{path}: ${{file:{file}}}: the path of the file must begin with /")
        return ""
    try:
        with file.open(encoding="utf-8") as opened:
            value = opened.read(_MAX_SECRET_BYTES).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        mistakes.append(f"{path}: ${{file:{file}}} cannot be read: {reason}")
        return ""
    if not value:
        mistakes.append(f"{path}: ${{file:{file}}} is empty")
    return value


def _expand(value: Any, path: str, values: _Values) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, f"{path}.{k}" if path else str(k), values) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, f"{path}[{i}]", values) for i, v in enumerate(value)]
    return values.expanded(value, path) if isinstance(value, str) else value


class _Values:
    """Values of ${NAME} and ${file:/PATH} in one text. mistakes: receives one line for each value that cannot be
    read."""

    def __init__(self, environ: Mapping[str, str], mistakes: list[str], unread: re.Pattern[str] | None) -> None:
        self._environ, self._mistakes, self._unread = environ, mistakes, unread

    def expanded(self, value: str, path: str) -> str:
        if self._unread is not None and _VARIABLE.search(value) and self._unread.fullmatch(path):
            return _not_read(path)

        def value_of(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith(_FILE):
                return _from_file(Path(name.removeprefix(_FILE)), path, self._mistakes)
            if not self._environ.get(name):
                self._mistakes.append(f"{path}: ${name} is not set. Set it, or remove the value that uses it")
            return self._environ.get(name, "")

        return _VARIABLE.sub(value_of, value)


def _not_read(path: str) -> str:
    """A digest for a digest, so that it is valid there and differs from every other."""
    return hashlib.sha256(path.encode()).hexdigest() if path.endswith(".sha256") else "(not read by this program)"
