"""An experiment as the gate of a replay: its arms and its terms, and the exit code that its verdict gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gateway.config.config import Config
from gateway.config.derive import plan_of
from gateway.config.upstreams import TargetRef
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.core.plan import Guardrail
from gateway.features.replay.options import MEASURED
from gateway.reports.model import Report

SHIP, REJECT, INCONCLUSIVE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class GateTerms:
    """What an experiment says about a replay of its arms."""

    targets: tuple[str, ...]
    """The control first; as `--target` takes them."""
    scorers: tuple[str, ...]
    """Those that the verdict needs."""
    primary: str | None
    margin: float
    alpha: float
    guardrails: tuple[Guardrail, ...]
    unmeasured: tuple[str, ...]
    """Guardrails that only traffic shows, such as feedback."""


def gate_terms(config: Config, name: str) -> GateTerms:
    """Raises CannotRun for an experiment that is unknown, or whose arms change headers."""
    experiment = config.experiments.get(name)
    if experiment is None:
        known = ", ".join(sorted(config.experiments)) or "none"
        raise CannotRun(
            f'--gate: no experiment "{name}"{did_you_mean(name, config.experiments)}; the config has: {known}'
        )
    plan = plan_of(name, experiment)
    measured = {metric.name for metric in MEASURED} | set(config.scorers)
    refs = (experiment.control, *(experiment.arms[arm] for arm, _ in plan.candidates))
    return GateTerms(
        targets=tuple(_word(ref) for ref in refs),
        scorers=tuple(metric for metric in plan.decides if metric in config.scorers),
        primary=plan.primary,
        margin=plan.margin,
        alpha=plan.alpha,
        guardrails=tuple(g for g in plan.guardrails if g.metric in measured),
        unmeasured=tuple(g.metric for g in plan.guardrails if g.metric not in measured),
    )


def _word(ref: TargetRef) -> str:
    if ref.headers:
        raise CannotRun(f"--gate: {ref.upstream}/{ref.model} changes headers, which a replay cannot")
    settings = [f"{name}={orjson.dumps(value).decode()}" for name, value in ref.set.items()]
    settings += [f"system={ref.system}"] if ref.system is not None else []
    return ",".join([f"{ref.upstream}/{ref.model}", *settings])


def exit_code(reports: Sequence[Report], *, complete: bool = True) -> int:
    """0: every candidate ships; 1: one is rejected; 2: neither. complete: every request has an answer."""
    verdicts = [report.verdict for report in reports]
    if "reject" in verdicts:
        return REJECT
    return SHIP if complete and verdicts and set(verdicts) == {"ship"} else INCONCLUSIVE
