"""The section `watch` of gateway.yaml: probes of the models behind names."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.types import Name, NonEmpty, Section, number
from gateway.core.time_span import seconds_of

PACKAGED, SAMPLED = "packaged", "sampled"


def _interval(value: str) -> str:
    if not 3600 <= seconds_of(value) <= 31 * 86_400:
        raise ValueError(f"expected 1h to 31d, such as 24h; got {value}")
    return value


class WatchConfig(Section):
    """Probes: fixed requests that ask the models behind names again and again, and compare the answers with earlier
    ones. What traffic shows of a model is watched without this section, and costs nothing."""

    probes: NonEmpty | None = None
    """The requests: `packaged` (neutral ones that ship with the gateway), `sampled` (of recorded traffic), or a JSONL
    file of yours. Relative paths start at the directory of gateway.yaml. Default: nothing is asked."""
    every: Annotated[str, AfterValidator(_interval)] = "24h"
    """Time between two rounds of one target, such as `12h` or `7d`."""
    usd_per_month: Annotated[float, BeforeValidator(number), Field(gt=0, le=1e6, allow_inf_nan=False)] = 2
    """Most USD in a calendar month (UTC) for all probes together; a round that could exceed it is not begun."""
    repeats: Annotated[int, Field(ge=2, le=20)] = 2
    """Answers to each request in a round, at temperature 0 and as served. The repeats of one round say how much the
    answers of an unchanged model differ."""
    models: tuple[Name, ...] | None = None
    """The model names whose targets are asked. Default: all, but patterns."""

    @property
    def every_s(self) -> float:
        return seconds_of(self.every)
