"""The mistakes of targets with `as: decision`, which answer only what is a decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.config.checks.guard_candidates import written_arms
from gateway.config.checks.partial import readable
from gateway.config.config import Config, Model
from gateway.config.derive import target_of, target_refs
from gateway.config.experiments import Experiment
from gateway.config.upstreams import TargetRef, Upstream
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
        for name in ("facade", "accept", "reading", "probed"):
            if getattr(ref, name) is not None:
                yield f"{at}.{name}: has a meaning only with `as: decision`; remove it"
        return
    if ref.route is not None or ref.guard is not None:
        yield f"{at}.as: a route or a guard is not a target that could be asked for decisions; remove it"
        return
    if ref.set:
        yield f"{at}.set: a decision has no parameters; remove it"
    target = target_of(ref)
    yield from _certificate_mistakes(at, ref.certificates, str(target), config, ref.reading or "native")
    if any(other.accept != ref.accept for other in target_refs(config) if target_of(other) == target):
        yield f"{at}.accept: {target} has another one elsewhere; write the same for each place that names the target"
    upstream = config.upstreams.get(ref.upstream)
    if upstream is None or upstream.kind not in PROVIDERS:
        return
    if ref.reading is not None:
        yield from _reading_mistakes(at, ref, upstream)
        return
    if ref.probed is not None:
        yield f"{at}.probed: has a meaning only with `reading`; remove it"
    if upstream.decision_format is None or upstream.provider.dialect not in CHATS:
        yield (
            f"{at}.as: the upstream {ref.upstream} has no API of decisions; set `decisions` of it, or name another "
            "one; decisions of a chat engine that shows log-probabilities need `reading`"
        )


def _reading_mistakes(at: str, ref: TargetRef, upstream: Upstream) -> Iterator[str]:
    from gateway.core.decision_reads import read_engine  # only where decisions are emulated

    if ref.probed is None:
        yield (
            f"{at}.probed: missing; a reading can be noise although its answers look healthy: give {ref.upstream}/"
            f"{ref.model} a model name of its own, run `gateway decisions probe` for it, and add the day"
        )
    engine = read_engine(upstream.kind, upstream.continues_prefill)
    if not engine.top:
        yield f"{at}.reading: an upstream of kind {upstream.kind} shows no log-probabilities; name another one"
    elif ref.reading == "slot" and engine.continues is None:
        yield (
            f"{at}.reading: slot needs a server that continues a last assistant message, and {ref.upstream} is of kind "
            f"{upstream.kind}; set `prefill` of that upstream if it does, or take another reading"
        )


def _certificate_mistakes(at: str, names: Sequence[str], answering: str, config: Config, reading: str) -> Iterator[str]:
    if names:  # a gateway without certificates loads nothing of them
        from gateway.config.checks.accepted_certificates import certificate_mistakes

        yield from certificate_mistakes(at, names, answering, config, reading)
