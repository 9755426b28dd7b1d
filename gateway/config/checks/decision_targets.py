"""The mistakes of targets with `as: decision`, which answer only what is a decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.config.checks.guard_candidates import written_arms
from gateway.config.checks.partial import readable
from gateway.config.config import Config, Model
from gateway.config.derive import target_of, target_refs
from gateway.config.experiments import Experiment
from gateway.config.upstreams import TargetRef
from gateway.core.providers import CHATS, PROVIDERS


def decision_model_mistakes(at: str, model: Model, config: Config) -> Iterator[str]:
    """Yields the mistakes of a model's targets. at: its path."""
    named = [
        (f"{at}.{part}[{n}]", ref) for part in ("targets", "fallback") for n, ref in enumerate(getattr(model, part, ()))
    ]
    for path, ref in named:
        yield from readable(_target_mistakes(path, ref, config))
    deciding = [path for path, ref in named if ref.as_]
    if deciding and len(deciding) == len(named):
        yield (
            f"{deciding[0]}.as: no target answers requests that are not decisions, or that it refuses; add the "
            "model that answered before to `fallback`"
        )


def decision_candidate_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    """Yields the mistakes of an experiment's arms. at: its path."""
    for path, ref in {"control": experiment.control, **written_arms(experiment)}.items():
        yield from readable(_target_mistakes(f"{at}.{path}", ref, config))
        if ref.as_ and getattr(experiment, "mode", None) == "likelihood":
            yield f"{at}.{path}.as: a decision has no likelihood of the served answer; use another mode"


def _target_mistakes(at: str, ref: TargetRef, config: Config) -> Iterator[str]:
    if ref.as_ is None:
        for name in ("facade", "accept"):
            if getattr(ref, name) is not None:
                yield f"{at}.{name}: has a meaning only with `as: decision`; remove it"
        return
    if ref.route is not None or ref.guard is not None:
        yield f"{at}.as: a route or a guard is not a target that could be asked for decisions; remove it"
        return
    if ref.set:
        yield f"{at}.set: a decision has no parameters; remove it"
    target = target_of(ref)
    yield from _certificate_mistakes(at, ref.certificates, str(target), config)
    if any(other.accept != ref.accept for other in target_refs(config) if target_of(other) == target):
        yield f"{at}.accept: {target} has another one elsewhere; write the same for each place that names the target"
    upstream = config.upstreams.get(ref.upstream)
    if upstream is None or upstream.kind not in PROVIDERS:
        return
    if upstream.decision_format is None or upstream.provider.dialect not in CHATS:
        yield (
            f"{at}.as: the upstream {ref.upstream} has no API of decisions; set `decisions` of it, or name another one"
        )


def _certificate_mistakes(at: str, names: Sequence[str], answering: str, config: Config) -> Iterator[str]:
    if names:  # a gateway without certificates loads nothing of them
        from gateway.config.checks.accepted_certificates import certificate_mistakes

        yield from certificate_mistakes(at, names, answering, config)
