"""Guards as candidates of experiments: `candidate: {guard: NAME}` asks what callers would get if the guard blocked.

The guard observes while the experiment runs, so the control is the answer as it was sent. A candidate is named by the
digest of what decides its refusals: a guard that is changed is another candidate, in a new plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.config.config import Config
from gateway.config.guards import GuardConfig
from gateway.config.upstreams import TargetRef
from gateway.core.exchange import Target
from gateway.core.guards import GUARD
from gateway.core.plan import CANDIDATE


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
