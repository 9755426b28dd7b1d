"""Guards as candidates of experiments: `candidate: {guard: NAME}` asks what callers would get if the guard blocked.

The guard observes while the experiment runs, so the control is the answer as it was sent. A candidate is named by the
digest of what decides its refusals: a guard that is changed is another candidate, in a new plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.config import Config
from gateway.config.guards import GuardConfig
from gateway.config.upstreams import TargetRef
from gateway.core.did_you_mean import did_you_mean
from gateway.core.exchange import Target
from gateway.core.guards import GUARD
from gateway.core.json_values import as_list, as_object
from gateway.core.plan import BUILT_IN_METRICS, CANDIDATE

_UNSENT = ("repeat_control", "aa", "compare", "budget", "gate")
"""Settings of an experiment that are about requests to candidates."""


@dataclass(frozen=True, slots=True)
class GuardCandidate:
    """A guard that a plan has as a candidate."""

    name: str
    guard: GuardConfig
    config_hash: str
    """Hash of the config that the guard's decisions name."""


def guard_candidate(config: Config, target: Target) -> GuardCandidate | None:
    """The guard that this target of a plan stands for. None means that it stands for none, or for one that has changed
    since.
    """
    guard = config.guards.get(target.model) if target.upstream == GUARD else None
    for begun in () if guard is None else (guard, guard.earlier()):  # a plan keeps what `if_late` meant at its start
        if begun.refusal_digest(config.scorers) == target.variant:
            return GuardCandidate(target.model, begun, begun.config_hash(config.scorers))
    return None


def with_guard_digests(config: Config) -> Config:
    """The config with the digest of each guard that is a candidate, so that a plan always refers to the same guard."""
    filled = {}
    for name, experiment in config.experiments.items():
        if not experiment.guarded:
            continue
        arms = {arm: _filled(config, ref) for arm, ref in experiment.arms.items()}
        changed = {"candidate": arms[CANDIDATE]} if experiment.candidate else {"candidates": arms}
        filled[name] = experiment.model_copy(update=changed)
    return config.model_copy(update={"experiments": {**config.experiments, **filled}}) if filled else config


def _filled(config: Config, ref: TargetRef) -> TargetRef:
    guard = config.guards.get(ref.guard or "")
    if guard is None:
        return ref
    return ref.model_copy(update={"digest": guard.refusal_digest(config.scorers)})


def guard_target_mistakes(raw: Mapping[str, Any]) -> Iterator[str]:
    """Guards where only a model can be. raw: the file as it was read."""
    for alias, model in as_object(raw.get("models")).items():
        for part in ("targets", "fallback"):
            for i, target in enumerate(as_list(as_object(model).get(part))):
                if _guard_in(target) is not None:
                    yield f"models.{alias}.{part}[{i}].guard: a guard answers no calls; name an upstream and a model"


def guard_candidate_mistakes(at: str, experiment: Mapping[str, Any], raw: Mapping[str, Any]) -> Iterator[str]:
    """Yields the settings that do not fit an experiment with a guard. at: its path. raw: the file as it was read."""
    if _guard_in(experiment.get("control")) is not None:
        yield f"{at}.control.guard: the control is the answer as it is sent; name a target of the model"
    arms = {"candidate": experiment["candidate"]} if "candidate" in experiment else {}
    arms |= {f"candidates.{arm}": ref for arm, ref in as_object(experiment.get("candidates")).items()}
    guarded = {path: name for path, ref in arms.items() if (name := _guard_in(ref)) is not None}
    if not guarded:
        return
    if GUARD in as_object(raw.get("upstreams")):
        yield f'upstreams.{GUARD}: "{GUARD}" names guards in plans and reports; rename the upstream'
    for path, name in guarded.items():
        yield from _arm_mistakes(f"{at}.{path}", name, as_object(arms[path]), experiment, raw)
    if others := [path for path in arms if path not in guarded]:
        yield (
            f"{at}.{others[0]}: a target, next to {next(iter(guarded))}, which is a guard; compare targets and "
            "guards in experiments of their own"
        )
    yield from _setting_mistakes(at, experiment)


def _guard_in(ref: Any) -> str | None:
    named = as_object(ref).get("guard")
    return named if isinstance(named, str) else None


def _arm_mistakes(
    at: str, name: str, ref: Mapping[str, Any], experiment: Mapping[str, Any], raw: Mapping[str, Any]
) -> Iterator[str]:
    if others := sorted(set(ref) - {"guard"}):
        yield f"{at}.{others[0]}: a guard sends no request that could differ; give `guard` alone"
    guards = as_object(raw.get("guards"))
    if name not in guards:
        known = did_you_mean(name, guards) or f"; there are: {', '.join(guards) or 'none'}"
        yield f'{at}.guard: no guard "{name}"{known}'
        return
    guard = as_object(guards[name])
    action, models = guard.get("action", "observe"), guard.get("models")
    if action in ("redact", "block"):
        yield (
            f"{at}.guard: guards.{name}.action is {action}, so the control would be guarded already; set "
            "`action: observe` while the experiment runs"
        )
    if action == "redact" or as_object(guard.get("ramp")).get("to") == "redact":
        yield f"{at}.guard: {_unknown_redaction(guard)}; a candidate is always compared as `block`"
    if isinstance(models, list) and experiment.get("model") not in models:
        yield f'{at}.guard: {name} judges only calls of {", ".join(map(str, models))}, not "{experiment.get("model")}"'


def _unknown_redaction(guard: Mapping[str, Any]) -> str:
    if guard.get("on") == "request":
        return "the answer to a redacted request is unknown, since no such request is sent"
    return "records hold marks in place of what a rule matches, so both arms of a redaction would be the same text"


def _setting_mistakes(at: str, experiment: Mapping[str, Any]) -> Iterator[str]:
    if experiment.get("ramp") is not None:
        yield f"{at}.ramp: a guard is taken to more units by `gateway guard promote`; remove it"
    elif (mode := experiment.get("mode", "shadow")) != "shadow":
        yield f"{at}.mode: {mode} needs a candidate that answers; with a guard the mode is shadow"
    if (method := experiment.get("method")) in ("hybrid", "anytime"):
        yield (
            f"{at}.method: {method} is asymptotic, and a guard changes few answers: with so few differences it would "
            "ship a worse guard too often; leave it out (guaranteed)"
        )
    if experiment.get("family") == "best":
        yield f"{at}.family: best saves requests to candidates, and guards get none; remove it"
    if experiment.get("segments") is not None:
        yield f"{at}.segments: a guard is limited to keys, teams and models alone, not to segments; remove it"
    for key in _UNSENT:
        if key in experiment:
            yield f"{at}.{key}: has no effect with a guard as the candidate, for which no request is sent; remove it"
    metrics = {"primary": experiment.get("primary")}
    metrics |= {f"guardrails.{metric}": metric for metric in as_object(experiment.get("guardrails"))}
    for path, metric in metrics.items():
        if metric in BUILT_IN_METRICS:
            yield (
                f"{at}.{path}: {metric} is of requests; a guard's refusal is not a failure, and needs no request of "
                "its own; name a scorer of answers"
            )
