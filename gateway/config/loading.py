"""gateway.yaml → `Config`: reads, expands, validates and checks a file, and reports all of its mistakes at once.

A scorer's own options are not checked here: only the consumer knows them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.checks.cross_section import cross_section_mistakes
from gateway.config.checks.experiment_settings import unpriced_budgets
from gateway.config.checks.partial import PartialConfig, partial_config
from gateway.config.checks.validation import validation_mistakes
from gateway.config.config import ApiKey, Config
from gateway.config.environment import add_from_up
from gateway.config.guard_candidates import with_guard_digests
from gateway.config.made_experiments import MadeExperiments, read_made
from gateway.config.model_lists import ModelLists, read_model_lists
from gateway.config.routes import NamedRoutes, RouteFiles, read_routes
from gateway.config.yaml_text import parse_yaml, read_config_text, secret_files
from gateway.core.errors import ConfigError

GATEWAY_ONLY = re.compile(
    r"keys\[\d+\]\.sha256|metrics\.sha256"
    r"|upstreams\..+\.(?:api_key|auth\.(?!kind).+|ca_file|cert_file|key_file|proxy|headers\..+|run\.(?:environ\..+|args\[\d+\]))"
)
"""Paths of the values that only `gateway serve` needs."""
_NOT_FOR_CONSUMERS = re.compile(rf"{GATEWAY_ONLY.pattern}|admin\.tokens\[\d+\]\.sha256|admin\.oidc\.client_secret")


def load(path: Path) -> Config:
    """Reads and checks a file. Raises ConfigError with every mistake in it."""
    return _load(path)


def load_for_console(path: Path, made: MadeExperiments | None = None) -> Config:
    """Loads the config for the console, which calls no upstream and compares no caller's key. made: instead of the
    experiments next to the file. Raises ConfigError."""
    return _load(path, GATEWAY_ONLY, made)


def load_for_consumer(path: Path, made: MadeExperiments | None = None) -> Config:
    """Loads the config for programs that call no upstream and know no caller: variables and files of upstreams' secrets
    and of keys' digests are neither required nor read. made: as of the console. Raises ConfigError."""
    return _load(path, _NOT_FOR_CONSUMERS, made)


def _load(path: Path, unread: re.Pattern[str] | None = None, made: MadeExperiments | None = None) -> Config:
    made, routes = read_made(path) if made is None else made, read_routes(path)
    lists, text = read_model_lists(path), read_config_text(path)
    config = parse(text, path.name, unread=unread, made=made, routes=routes, lists=lists)
    return config.read_in(path.parent)


def parse(
    text: str,
    name: str = "gateway.yaml",
    environ: Mapping[str, str] | None = None,
    unread: re.Pattern[str] | None = None,
    made: MadeExperiments | None = None,
    routes: RouteFiles | None = None,
    lists: ModelLists = ModelLists(),  # noqa: B008 - frozen
) -> Config:
    """Checks the text of a config file. environ: the values of ${NAME}; None: this process's environment.
    unread: see parse_yaml. made: the experiments of the console, which belong to the config. routes: the files of
    learned routes. lists: of prices and retirements."""
    environ = os.environ if environ is None else environ
    raw, mistakes = parse_yaml(text, name, environ, unread)
    if isinstance(raw.get("model_list"), list) and "models" not in raw:
        raise ConfigError([f"{name}: {_of_litellm(text, name, len(raw['model_list']))}"])
    add_from_up(raw, environ)
    raw = raw if made is None else made.merged_into(raw)
    named = NamedRoutes(routes or RouteFiles(Path(name)))
    raw = named.filled(raw)
    try:
        config = _validated(raw)
        valid = PartialConfig(config, config.experiments)
    except ValidationError as error:
        mistakes, valid = validation_mistakes(error, Config, mistakes), partial_config(raw)
    mistakes += [*cross_section_mistakes(valid), *named.mistakes, *named.unknown_upstreams(raw)]
    mistakes += [] if mistakes else unpriced_budgets(config.with_routes(named.routes).with_lists(lists))
    if mistakes:
        raise ConfigError([f"{name}: {m}" for m in sorted(set(mistakes), key=_in_order)])
    beside = () if made is None else (made.path,)
    digest = hashlib.sha256((text + (made.text if made else "") + named.text + lists.text).encode()).hexdigest()[:12]
    return with_guard_digests(config).read_from(digest, (*secret_files(text), *beside, *named.paths, *lists.paths))


def _of_litellm(text: str, name: str, deployments: int) -> str:
    found = [f"{deployments} entries of model_list"]
    found += ["os.environ/NAME"] if "os.environ/" in text else []
    found += ['wildcards such as "openai/*"'] if "/*" in text else []
    return (
        f"this is the config of a LiteLLM proxy ({', '.join(found)}); "
        f"`gateway import litellm {name} --out gateway.yaml` translates it, and lists settings without an equivalent"
    )


def _in_order(mistake: str) -> tuple[bool, list[str | int]]:
    """Missing sections first, since others may follow from them; then by path, with positions as numbers."""
    parts = re.split(r"(\d+)", mistake)
    return ": missing" not in mistake or "." in mistake.partition(":")[0], [int(p) if p.isdigit() else p for p in parts]


def _validated(raw: dict[str, Any]) -> Config:
    """Raises ValidationError.

    Keys are validated one by one: thousands at once would hold the interpreter for as long as it takes, and a thread
    that reads a config would stop a gateway's calls.
    """
    keys = raw.get("keys")
    if not isinstance(keys, list):
        return Config.model_validate(raw)
    try:
        validated = [ApiKey.model_validate(key) for key in keys]
    except ValidationError:
        return Config.model_validate(raw)  # whose error says which key it was
    return Config.model_validate({**raw, "keys": validated})


def file_stamp(path: Path) -> tuple[int, int]:
    """(nanoseconds of its last change, bytes) of a file, which tell whether it changed; (0, 0) if it cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size
