"""The mistakes of experiments whose candidate is a guard, which answers nothing and for which nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.checks.partial import numbered, readable
from gateway.config.config import Config
from gateway.config.experiments import Experiment
from gateway.config.guards import GuardConfig
from gateway.config.upstreams import TargetRef
from gateway.core.did_you_mean import did_you_mean
from gateway.core.guards import GUARD
from gateway.core.learned_route import ROUTE
from gateway.core.plan import BUILT_IN_METRICS

_UNSENT = ("repeat_control", "aa", "compare", "budget", "gate")
"""Settings of an experiment that are about requests to candidates."""


def guard_candidate_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    """Yields the settings that do not fit an experiment with a guard. at: its path."""
    yield from readable(_control_mistakes(at, experiment))
    arms = written_arms(experiment)
    guarded = {path: ref for path, ref in arms.items() if getattr(ref, "guard", None) is not None}
    if not guarded:
        return
    if GUARD in getattr(config, "upstreams", ()):
        yield f'upstreams.{GUARD}: "{GUARD}" names guards in plans and reports; rename the upstream'
    for path, ref in guarded.items():
        yield from readable(_arm_mistakes(f"{at}.{path}", ref, experiment, config))
    if others := [path for path in arms if path not in guarded]:
        yield (
            f"{at}.{others[0]}: a target, next to {next(iter(guarded))}, which is a guard; compare targets and "
            "guards in experiments of their own"
        )
    yield from _setting_mistakes(at, experiment)


def written_arms(experiment: Experiment) -> dict[str, TargetRef]:
    """The candidates by their paths."""
    one = {} if experiment.candidate is None else {"candidate": experiment.candidate}
    several: dict[str, TargetRef] = getattr(experiment, "candidates", {})
    return one | {f"candidates.{arm}": ref for arm, ref in several.items()}


def written_metrics(experiment: Experiment) -> dict[str, str]:
    """The metrics that decide, by their paths."""
    primary = {} if experiment.primary is None else {"primary": experiment.primary}
    guardrails: dict[str, float] = getattr(experiment, "guardrails", {})
    return primary | {f"guardrails.{metric}": metric for metric in guardrails}


def _control_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    if experiment.control.guard is not None:
        yield f"{at}.control.guard: the control is the answer as it is sent; name a target of the model"


def _arm_mistakes(at: str, ref: TargetRef, experiment: Experiment, config: Config) -> Iterator[str]:
    if others := sorted(ref.model_fields_set - _filled_in(ref)):
        yield f"{at}.{others[0].rstrip('_')}: a guard sends no request that could differ; give `guard` alone"
    name = ref.guard or ""
    if name not in config.guards:
        known = did_you_mean(name, config.guards) or f"; there are: {', '.join(config.guards) or 'none'}"
        yield f'{at}.guard: no guard "{name}"{known}'
        return
    guard = config.guards[name]
    yield from readable(_scope_mistakes(at, name, guard, experiment))
    yield from readable(_action_mistakes(at, name, guard))


def _filled_in(ref: TargetRef) -> set[str]:
    """The fields that a reference to a guard has by itself."""
    stands_for = {"upstream": (GUARD, ROUTE), "model": (ref.guard, ref.route)}
    return {"guard", *(field for field, names in stands_for.items() if getattr(ref, field, None) in names)}


def _scope_mistakes(at: str, name: str, guard: GuardConfig, experiment: Experiment) -> Iterator[str]:
    models = None if guard.models is None else [model for _, model in numbered(guard.models)]
    if models is not None and experiment.model not in models:
        yield f'{at}.guard: {name} judges only calls of {", ".join(models)}, not "{experiment.model}"'


def _action_mistakes(at: str, name: str, guard: GuardConfig) -> Iterator[str]:
    if guard.action in ("redact", "block"):
        yield (
            f"{at}.guard: guards.{name}.action is {guard.action}, so the control would be guarded already; set "
            "`action: observe` while the experiment runs"
        )
    if guard.action == "redact" or guard.ramp.to == "redact":
        yield f"{at}.guard: {_unknown_redaction(guard)}; a candidate is always compared as `block`"


def _unknown_redaction(guard: GuardConfig) -> str:
    if guard.on == "request":
        return "the answer to a redacted request is unknown, since no such request is sent"
    return "records hold marks in place of what a rule matches, so both arms of a redaction would be the same text"


def _setting_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    if experiment.method in ("hybrid", "anytime"):
        yield (
            f"{at}.method: {experiment.method} is asymptotic, and a guard changes few answers: with so few differences "
            "it would ship a worse guard too often; leave it out (guaranteed)"
        )
    if experiment.segments is not None:
        yield f"{at}.segments: a guard is limited to keys, teams and models alone, not to segments; remove it"
    for key in _UNSENT:
        if key in experiment.model_fields_set:
            yield f"{at}.{key}: has no effect with a guard as the candidate, for which no request is sent; remove it"
    for path, metric in written_metrics(experiment).items():
        if metric in BUILT_IN_METRICS:
            yield (
                f"{at}.{path}: {metric} is of requests; a guard's refusal is not a failure, and needs no request of "
                "its own; name a scorer of answers"
            )
    yield from readable(_mode_mistakes(at, experiment))
    yield from readable(_family_mistakes(at, experiment))


def _mode_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    if experiment.ramp is not None:
        yield f"{at}.ramp: a guard is taken to more units by `gateway guard promote`; remove it"
    elif experiment.mode != "shadow":
        yield f"{at}.mode: {experiment.mode} needs a candidate that answers; with a guard the mode is shadow"


def _family_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    if experiment.family == "best":
        yield f"{at}.family: best saves requests to candidates, and guards get none; remove it"
