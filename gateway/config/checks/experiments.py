"""The mistakes of experiments in what they name of other sections, and in calls that two of them would share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

from gateway.config.checks.decision_targets import decision_candidate_mistakes
from gateway.config.checks.experiment_settings import setting_mistakes
from gateway.config.checks.guard_candidates import guard_candidate_mistakes, written_arms, written_metrics
from gateway.config.checks.partial import PartialConfig, in_each, numbered, readable
from gateway.config.checks.references import key_names, unknown_target
from gateway.config.config import Config, Model
from gateway.config.experiments import Experiment
from gateway.config.scorers import scores_runs
from gateway.config.upstreams import TargetRef
from gateway.core.did_you_mean import did_you_mean
from gateway.core.plan import (
    AGAIN,
    BUILT_IN_METRICS,
    CONTROL,
    FEEDBACK,
    LIKELIHOOD_METRICS,
    REPEAT,
    RUN_METRICS,
    STRATA,
    Mode,
)
from gateway.core.providers import PROVIDERS
from gateway.core.wildcards import is_pattern

_FEEDBACK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def experiment_mistakes(of: PartialConfig) -> Iterator[str]:
    config = of.config
    yield from in_each(
        config,
        "experiments",
        _model_mistakes,
        _arm_mistakes,
        guard_candidate_mistakes,
        decision_candidate_mistakes,
        _control_mistakes,
        _key_mistakes,
        _metric_mistakes,
        _strata_mistakes,
    )
    models: dict[str, Model] = getattr(config, "models", {})
    for name, experiment in of.experiments.items():
        at = f"experiments.{name}"
        yield from setting_mistakes(at, experiment, models.get(experiment.model))
        yield from readable(_unscored_mistakes(at, experiment, config))
    for (a, one), (b, other) in combinations(config.experiments.items(), 2):
        yield from readable(_shared_calls(a, one, b, other))


def _model_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    alias = experiment.model
    if is_pattern(alias):
        yield f'{at}.model: "{alias}" stands for many models; an experiment compares targets of one'
    if alias not in config.models:
        yield f'{at}.model: no model "{alias}"{did_you_mean(alias, config.models)}'


def _arm_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    yield from readable(_control_upstream(at, experiment, config))
    for path, ref in written_arms(experiment).items():
        yield from readable(unknown_target(f"{at}.{path}", ref, config))
    several = experiment.candidates
    if ("candidate" in experiment.model_fields_set) == bool(several):
        yield (
            f"{at}.candidate: give one candidate, or several by the names of their arms under `candidates`"
            f"{', not both' if several else ''}"
        )
    for arm in several:
        if arm in (CONTROL, REPEAT) or (arm == AGAIN and _mode(experiment) == "likelihood"):
            yield f'{at}.candidates.{arm}: "{arm}" is the name of the control\'s own arm; choose another'


def _control_upstream(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    yield from unknown_target(f"{at}.control", experiment.control, config)


def _mode(experiment: Experiment) -> Mode | None:
    """The written mode or its default; None if it is not valid."""
    mode: Mode | None = getattr(experiment, "mode", None)
    return mode


def _control_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    model, control = config.models.get(experiment.model), experiment.control
    if model is None or any(ref.route is not None for ref in (control, *model.targets)):
        return  # routes.py checks the control of a route
    if control.guard is not None or any(_variant(control) == _variant(target) for target in model.targets):
        return
    name, where = f"{control.upstream}/{control.model}", f"models.{experiment.model}"
    if any(_variant(control)[:2] == _variant(target)[:2] for target in model.targets):
        yield (
            f"{at}.control: {name} is a target of {where} with other `set`, `system` or `headers`; the control is what "
            "users get, so repeat those of the target here"
        )
    else:
        yield f"{at}.control: {name} is not a target of {where}"


def _variant(ref: TargetRef) -> tuple[object, ...]:
    return ref.upstream, ref.model, ref.set, ref.system, ref.headers, ref.as_, ref.reading


def _key_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    names = key_names(config)
    for i, key in numbered(experiment.allow.keys or ()):
        if key not in names and not config.model_fields_set & {"admin", "jwt"}:  # whose callers become known later
            yield f'{at}.allow.keys[{i}]: no key "{key}"{did_you_mean(key, names)}'


def _metric_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    primary = experiment.primary
    if primary in getattr(experiment, "guardrails", ()):
        yield f'{at}.guardrails.{primary}: "{primary}" is the primary metric, which has its margin already'
    for path, metric in written_metrics(experiment).items():
        if metric.startswith(FEEDBACK):
            yield from readable(_feedback_mistakes(f"{at}.{path}", metric, experiment))
        else:
            yield from readable(_score_mistakes(f"{at}.{path}", metric, experiment, config))


def _score_mistakes(at: str, metric: str, experiment: Experiment, config: Config) -> Iterator[str]:
    of_mode = LIKELIHOOD_METRICS if _mode(experiment) == "likelihood" else ()
    known = [*config.scorers, *BUILT_IN_METRICS, *of_mode, *RUN_METRICS]
    if metric not in known:
        hint = did_you_mean(metric, known) or f"; known: {', '.join(known)}"
        yield f'{at}: no scorer and no metric "{metric}"{hint}'
    elif _is_of_runs(metric, config):
        yield from _run_mistakes(at, metric, experiment)


def _is_of_runs(metric: str, config: Config) -> bool:
    """Whether a metric has one value for each run: a scorer of runs, or one of RUN_METRICS."""
    return metric in RUN_METRICS or (metric in config.scorers and scores_runs(metric, config.scorers[metric]))


def _run_mistakes(at: str, metric: str, experiment: Experiment) -> Iterator[str]:
    if experiment.unit == "run" and experiment.mode == "split":
        return
    on_ramp = experiment.unit == "run" and experiment.ramp is not None and metric not in RUN_METRICS
    if not on_ramp or at.endswith(".primary"):  # a ramp tests a guardrail of runs on the runs that it serves
        yield (
            f"{at}: {metric} is of whole runs, and a shadow answers one call: set `mode: split, unit: run`, or have a "
            "scorer of runs as a guardrail of a ramp with `unit: run`"
        )


def _feedback_mistakes(at: str, metric: str, experiment: Experiment) -> Iterator[str]:
    """Rejects feedback as a metric of shadows: nobody sees a shadow's answer, so nobody can rate it."""
    if not _FEEDBACK_NAME.fullmatch(metric.removeprefix(FEEDBACK)):
        yield f'{at}: "{metric}": the name of feedback is letters, digits, `_`, `-` and `.`, up to 64'
    mode = experiment.mode
    if mode in ("shadow", "likelihood") or (mode == "both" and at.endswith(".primary")):
        yield (
            f"{at}: people rate only answers that they are served, so {metric} "
            f"{'decides' if mode == 'both' else 'is a metric of'} a split: set `mode: split`"
        )


def _strata_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    for i, stratum in numbered(experiment.strata):
        if stratum not in STRATA:
            yield f'{at}.strata[{i}]: expected one of {", ".join(STRATA)}, got "{stratum}"'


def _unscored_mistakes(at: str, experiment: Experiment, config: Config) -> Iterator[str]:
    """Upstreams whose API has no log-probabilities of a prompt. An upstream of kind openai at an address of its own may
    be any server; its first answer shows whether it has them."""
    for arm, ref in {CONTROL: experiment.control, **experiment.arms}.items() if experiment.likelihood else ():
        upstream = config.upstreams.get(ref.upstream)
        kind = None if upstream is None else getattr(upstream, "kind", None)
        provider = PROVIDERS.get(kind) if kind else None
        if upstream is None or provider is None or provider.prompt_logprobs:
            continue
        if kind != "openai" or upstream.base_url in (None, provider.base_url):
            yield (
                f"{at}.{arm}.upstream: {ref.upstream} is of kind {kind}, whose API has no log-probabilities of a "
                "prompt; `mode: likelihood` needs vLLM's `prompt_logprobs` in both arms: serve both by kind vllm, or "
                "compare answers with `mode: shadow`"
            )


def _shared_calls(a: str, one: Experiment, b: str, other: Experiment) -> Iterator[str]:
    if one.model == other.model and not _disjoint(one, other):
        yield (
            f'experiments.{b}.model: "{other.model}" is in experiments.{a} already, and a call can be in one; give one '
            "`start: manual` or `enabled: false`, or both `allow: {keys: […]}` without a common key"
        )


def _disjoint(one: Experiment, other: Experiment) -> bool:
    """Tells whether no call can be in both experiments. An experiment that a command starts does not count: the command
    is refused while the other one runs."""
    ours, theirs = one.allow.keys, other.allow.keys
    off = any(not experiment.enabled or experiment.start == "manual" for experiment in (one, other))
    return off or (ours is not None and theirs is not None and not set(ours) & set(theirs))
