"""What our own processes tell each other through the environment: `gateway up` its programs, `serve` its workers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.core.providers import Provider

# What `gateway up` tells the programs it starts.
ENGINES, UP_KEY, EVALS = "GATEWAY_ENGINES", "GATEWAY_UP_KEY_SHA256", "GATEWAY_UP_EVALS"


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """What every worker of one `gateway serve` must know. loopback: the port is reached from this machine only."""

    config: Path
    data: Path
    loopback: bool


def pass_on(served: WorkerEnvironment, shared_metrics: Path) -> None:
    """shared_metrics: a directory where workers keep their counts together; prometheus_client reads it at import."""
    os.environ["GATEWAY_SERVED"] = json.dumps([str(served.config), str(served.data), served.loopback])
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared_metrics)


def passed_on() -> WorkerEnvironment:
    config, data, loopback = json.loads(os.environ["GATEWAY_SERVED"])
    return WorkerEnvironment(Path(config), Path(data), loopback)


def shared_metrics() -> Path | None:
    """Where worker processes share their counts; None: one process, counts in memory."""
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(given) if given else None


def key_of(vendor: Provider) -> str:
    """The value of the vendor's usual key variable; "" when it is not set."""
    return os.environ.get(vendor.key_env or "", "")


def our_environment() -> dict[str, str]:
    return dict(os.environ)


def environment(engines: Mapping[str, str], digest: str, evals: str = "") -> dict[str, str]:
    """Our own environment, with what `gateway up` tells the programs it starts: see config_text.add_told, and
    config_evals.add_evals for evals."""
    told = {ENGINES: " ".join(f"{name}={url}" for name, url in engines.items()), UP_KEY: digest, EVALS: evals}
    return {**os.environ, **told}
