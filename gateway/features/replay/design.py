"""The design of a replay: its requests, settings of every request, seeds. Frozen and hashed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import orjson

from gateway.features.replay.datasets.datasets import DatasetItem
from gateway.features.targets import ReplayTarget, RequestSettings

_SEEDED_APIS = ("chat", "completions")
_SYSTEM: Mapping[str, str] = MappingProxyType({"responses": "instructions", "messages": "system"})


@dataclass(frozen=True, slots=True)
class ReplayDesign:
    dataset: str
    """The dataset's hash."""
    targets: tuple[ReplayTarget, ...]
    settings: RequestSettings
    reuse_control: bool = False
    """The control's answers are taken from recorded traffic where it has them."""

    @property
    def json(self) -> str:
        """Serializes the settings that determine the answers."""
        fixed: dict[str, Any] = {"dataset": self.dataset, "settings": asdict(self.settings)}
        fixed |= {"reuse_control": True} if self.reuse_control else {}
        targets = {t.name: t.definition for t in self.targets}
        return orjson.dumps({**fixed, "targets": targets}, option=orjson.OPT_SORT_KEYS).decode()

    @property
    def hash(self) -> str:
        return sha256(self.json.encode()).hexdigest()[:16]


def body(item: DatasetItem, target: ReplayTarget, settings: RequestSettings, repeat: int) -> dict[str, Any]:
    """The request body. repeat: from 1."""
    body = {"model": target.alias, **item.request, **dict(settings.fields)}
    for name, value in target.fields:
        body[name] = value
        if value is None:
            del body[name]
    system = settings.system if target.system is None else target.system
    if system is not None:
        _instruct(body, item.api, system)
    if target.seeded and item.api in _SEEDED_APIS and settings.seed is not None:
        own = body.get("seed")
        body["seed"] = (own if isinstance(own, int) else settings.seed) + repeat - 1
    return body


def _instruct(body: dict[str, Any], api: str, system: str) -> None:
    if api in _SYSTEM:
        body[_SYSTEM[api]] = system
    elif api == "chat":
        others = [turn for turn in body["messages"] if turn.get("role") not in ("system", "developer")]
        body["messages"] = [{"role": "system", "content": system}, *others]
