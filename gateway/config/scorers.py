"""The sections of gateway.yaml that room 2 reads: `evals`, how it reaches the gateway, and `scorers`."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.config.types import Positive, Section, Share, Url

EVALS_KEY = "evals"  # the name of the key that `gateway up` makes for its consumer
FILE = "evals"  # in the data directory: "BASE_URL KEY", mode 0600


class EvalsConfig(Section):
    """How judges, embeddings and replays reach the gateway. base_url: of the gateway, as in http://127.0.0.1:8000/v1.

    api_key: one of `keys`, with `sample: never`. Left out under `gateway up`, which makes both.
    """

    base_url: Url | None = None
    api_key: str | None = None


class ScorerConfig(BaseModel):
    """use: a scorer's name, dotted.path:Class or http://…; None: the scorer's own name. Further options are the
    scorer's own.

    share: of the recorded exchanges. deadline_s: for one subject, waiting for its turn included; None: 10, or 60 where
    a model is asked. concurrency: subjects at once in each consumer; None: 16, or 8 where a model is asked.
    budget_usd, budget_tokens: of one UTC day, all consumers together. isolate: in a process of its own. memory_mb:
    the most that one may take.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str | None = None
    share: Share = 1.0
    deadline_s: Positive | None = None
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    budget_usd: Annotated[float, Field(ge=0)] | None = None
    budget_tokens: Annotated[int, Field(ge=0)] | None = None
    isolate: bool = False
    memory_mb: Annotated[int, Field(ge=64)] | None = None

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


def keep_told(data: Path, base_url: str) -> str:
    """Makes a key for one life of `gateway up`: "BASE_URL KEY", for add_evals. Verbs that are run beside it read it."""
    told = f"{base_url} sk-evals-{secrets.token_urlsafe(24)}"
    path = data / FILE
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(told)
    return told


def evals_of(evals: EvalsConfig, data: Path) -> EvalsConfig:
    """How the gateway is reached: as the config says, else as the `gateway up` of this data directory does."""
    path = data / FILE
    if evals.base_url or not path.exists():
        return evals
    base_url, _, key = path.read_text(encoding="utf-8").partition(" ")
    return EvalsConfig(base_url=base_url, api_key=key or None)


def add_evals(raw: dict[str, Any], told: str) -> None:
    """What `gateway up` tells its programs: "BASE_URL KEY". The section, where the file has none, and the key, among
    `keys`. Nothing where the file names a gateway itself.
    """
    base_url, _, key = told.partition(" ")
    if not key or raw.get("evals"):
        return
    raw["evals"] = {"base_url": base_url, "api_key": key}
    keys = raw.get("keys") or []
    if not isinstance(keys, list):
        return  # a mistake, and said as one
    taken = {k.get("name") for k in keys if isinstance(k, dict)}
    name = next(n for n in (EVALS_KEY, *(f"{EVALS_KEY}-{i}" for i in range(len(taken) + 1))) if n not in taken)
    digest = hashlib.sha256(key.encode()).hexdigest()
    raw["keys"] = [*keys, {"name": name, "sha256": digest, "allow": ["target"], "sample": "never"}]


def evals_mistakes(raw: dict[str, Any]) -> list[str]:
    """A key whose traffic is sampled would have its judge's calls judged, and those calls judged again."""
    evals = raw.get("evals")
    key = evals.get("api_key") if isinstance(evals, dict) else None
    keys = raw.get("keys")
    if not isinstance(key, str) or not isinstance(keys, list):
        return []
    digest = hashlib.sha256(key.encode()).hexdigest()
    for each in keys:
        if isinstance(each, dict) and each.get("sha256") == digest and each.get("sample") != "never":
            return [f'evals.api_key: the traffic of key "{each.get("name")}" is sampled, so that judges would judge '
                    "their own calls; give that key `sample: never`"]  # fmt: skip
    return []
