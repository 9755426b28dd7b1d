"""Settings of one valid experiment that have no effect, or cannot hold together."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gateway.config.checks.partial import readable
from gateway.config.config import Config, Model, Timeouts
from gateway.config.derive import asked_refs, prices_of, target_of
from gateway.config.experiments import Experiment
from gateway.core.did_you_mean import did_you_mean
from gateway.core.horizon import smallest_margin
from gateway.core.learned_route import APIS as ROUTED_APIS
from gateway.core.plan import (
    DEFAULT_BLOCKS_MIN,
    FAILURE_METRICS,
    FEEDBACK,
    FEWEST_TIME_BLOCKS,
    LIKELIHOOD_METRICS,
    NATS_PER_TOKEN,
    UNBOUNDED_METRICS,
)
from gateway.core.segments import KEY, METADATA, MOST_PROPERTIES, MOST_SEGMENTS, MOST_VALUES, PROPERTIES


def setting_mistakes(at: str, experiment: Experiment, model: Model | None) -> Iterator[str]:
    """model: the section that the experiment names; None if there is none."""
    shadows, splits = experiment.shadows, experiment.splits
    for key, used in (("shadow", shadows), ("repeat_control", shadows), ("split", splits)):
        if key in experiment.model_fields_set and not used:
            yield f"{at}.{key}: has no effect with `mode: {experiment.mode}`; remove it, or set `mode: both`"
    yield from _margin_mistakes(at, experiment)
    yield from _block_mistakes(at, experiment)
    yield from _segment_mistakes(at, experiment)
    yield from _same_target_mistakes(at, experiment)
    yield from _ramp_mistakes(at, experiment)
    yield from _best_mistakes(at, experiment)
    if "record" in experiment.model_fields_set and not splits:
        yield f"{at}.record: has no effect with `mode: {experiment.mode}`, whose answers are always recorded"
    decides = (experiment.primary or "", *experiment.guardrails)
    if not any(metric.startswith(FEEDBACK) for metric in decides):
        for key in ("feedback_window_s", "feedback_missing"):
            if key in experiment.model_fields_set:
                yield f"{at}.{key}: has no effect, as no feedback is the primary or a guardrail; remove it"
    instructed = [arm for arm, ref in experiment.arms.items() if ref.system is not None]
    if instructed and "completions" in experiment.allow.apis and "apis" in experiment.allow.model_fields_set:
        yield f"{at}.allow.apis: completions have no system message, and arm {instructed[0]} sets one; leave it out"
    routed = [arm for arm, ref in experiment.arms.items() if ref.route is not None]
    unread = [api for api in experiment.allow.apis if api not in ROUTED_APIS]
    if routed and unread:
        yield (
            f"{at}.allow.apis: a learned route reads chats and completions only, and arm {routed[0]} is one; leave "
            f"{unread[0]} out"
        )
    yield from readable(_deadline_mistakes(at, experiment, model))
    yield from _likelihood_mistakes(at, experiment) if experiment.likelihood else _method_mistakes(at, experiment)
    at_once = experiment.requests_of_shadow
    if shadows and not experiment.guarded and experiment.shadow_concurrency < at_once:
        yield (
            f"{at}.budget.concurrency: {experiment.budget.concurrency} is below the {at_once} requests of one shadow "
            "(each candidate, and the control again), so none could be sent"
        )
    start, stop = experiment.start, experiment.stop
    if isinstance(start, float) and stop is not None and stop <= start:
        yield f"{at}.stop: not after its start"


def _margin_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """A primary whose margin cannot be met: not by any candidate, or not within the horizon."""
    if experiment.primary is None or experiment.likelihood:
        return
    if not experiment.margin:
        yield (
            f"{at}.margin: 0, which no candidate can be shown to meet, however many pairs are paid for; give the "
            "largest loss that is acceptable, such as 0.02 (a guardrail may have 0)"
        )
        return
    most, alpha = experiment.max_pairs, experiment.alpha / max(1, len(experiment.arms))
    bounded = experiment.primary not in UNBOUNDED_METRICS
    if isinstance(most, int) and bounded and experiment.only_shadows and experiment.chosen_method == "hybrid":
        least = smallest_margin(most, alpha)
        if least >= experiment.margin:
            yield (
                f"{at}.max_pairs: {most} pairs cannot show a margin of {experiment.margin:g}, even if both arms were "
                f"alike in all of them (they show {least:.2g}); leave it out to plan enough pairs, or widen the margin"
            )


def _block_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """Blocks of time that count one by one, and of which the planned hours have too few."""
    minutes, hours = experiment.dependence.blocks_min, experiment.min_hours
    if minutes <= DEFAULT_BLOCKS_MIN or not experiment.shadows:
        return
    if 60 * hours < FEWEST_TIME_BLOCKS * minutes:
        yield (
            f"{at}.dependence.blocks_min: min_hours {hours:g} has fewer than {FEWEST_TIME_BLOCKS} blocks of "
            f"{minutes:g} minutes, too few for a verdict that counts them; set min_hours to "
            f"{math.ceil(FEWEST_TIME_BLOCKS * minutes / 60)} or more, or shorter blocks"
        )


def _segment_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """Segments that cannot be told apart before a request is answered, or that nothing could decide."""
    segments = experiment.segments
    if segments is None:
        return
    at = f"{at}.segments"
    if experiment.chosen_mode not in ("shadow", "both") or (experiment.primary or "").startswith(FEEDBACK):
        yield f"{at}: segments compare pairs by the primary; they need `mode: shadow` or a `ramp`, and no feedback"
    if experiment.family == "best" and len(experiment.arms) > 1:
        yield f"{at}: has no effect with `family: best`, which compares candidates over all traffic; remove one of them"
    if experiment.primary is None:
        yield f"{at}: there is no primary that could decide in them; set `primary`"
    elif segments.margin is not None and segments.margin < experiment.margin:
        yield (
            f"{at}.margin: {segments.margin:g} is below the experiment's {experiment.margin:g}, which would take many "
            "times the pairs; give a larger one (default: twice the experiment's)"
        )
    for i, name in enumerate(segments.by):
        yield from _property_mistakes(f"{at}.by[{i}]", name)
    if len(segments.by) > MOST_PROPERTIES:
        yield f"{at}.by: {len(segments.by)} properties, at most {MOST_PROPERTIES}: each takes more pairs"
    for name, values in segments.values.items():
        if name not in segments.by:
            yield f'{at}.values.{name}: "{name}" is not in `by`; add it there, or remove its values'
        if not values or len(values) > MOST_VALUES:
            yield f"{at}.values.{name}: {len(values)} values, expected 1 to {MOST_VALUES}"
    design = segments.design(experiment.margin)
    if len(design.segments) > MOST_SEGMENTS:
        yield f"{at}: {len(design.segments)} segments, at most {MOST_SEGMENTS}; take properties out of `by`"
    if not segments.by and not segments.weak_spots:
        yield f"{at}: no property in `by` and `weak_spots: 0`, so it does nothing; remove it"


def _property_mistakes(at: str, name: str) -> Iterator[str]:
    known = [KEY, *PROPERTIES]
    if name in known or (name.startswith(METADATA) and name != METADATA):
        return
    hint = did_you_mean(name, known) or f"; known before a request is answered: {', '.join(known)}, {METADATA}NAME"
    yield f'{at}: no property "{name}" of a request{hint}'


def _same_target_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    for arm, ref in experiment.arms.items():
        if target_of(ref) == target_of(experiment.control):
            path = arm if experiment.candidate else f"candidates.{arm}"
            yield (
                f"{at}.{path}: is the control itself ({target_of(ref)}), so only noise would be compared and paid for; "
                "name another target, or give it `set`, `system` or `headers`"
            )


def _best_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """Yields why candidates cannot be compared with each other."""
    if experiment.family != "best":
        return
    if len(experiment.arms) < 2:
        yield (
            f"{at}.family: best compares candidates with each other, and there is {len(experiment.arms)}; name two or "
            "more under `candidates`, or remove it"
        )
    if experiment.chosen_mode != "shadow":
        setting = "ramp" if experiment.ramp else f"mode: {experiment.mode}"
        yield (
            f"{at}.family: best compares the answers of candidates to the same requests, which `{setting}` does not "
            "give; set `mode: shadow`, or remove it"
        )
    if experiment.primary is None:
        yield f"{at}.primary: `family: best` finds the best candidate by the primary metric; set `primary` to a scorer"


def _ramp_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    ramp, given = experiment.ramp, experiment.model_fields_set
    if ramp is None:
        return
    if experiment.mode != "both" and "mode" in given:
        yield f"{at}.mode: a ramp has shadows and serves the candidate's share, as `mode: both` does; remove it"
    if "split" in given:
        yield f"{at}.split: has no effect with `ramp`, whose steps are the shares that are served; remove it"
    if len(experiment.arms) > 1:
        yield f"{at}.ramp: there are {len(experiment.arms)} candidates, and a ramp has one"
    if experiment.primary is None:
        yield f"{at}.ramp: it advances with the verdict on the primary metric; set `primary`"
    if experiment.record != 1.0:
        yield f"{at}.record: {experiment.record:g}, but a ramp counts every answer that is served; remove it"
    exposure = ramp.largest_exposure
    if (experiment.primary or "").startswith(FEEDBACK) and exposure.requests is None and exposure.usd is None:
        yield (
            f"{at}.ramp.largest_exposure: feedback is given on served answers only, so the candidate serves before "
            "there is a verdict; say how many `requests` or `usd` it may"
        )


_OF_LIKELIHOOD = (*LIKELIHOOD_METRICS, *FAILURE_METRICS)


def _likelihood_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """Yields settings that do not fit an experiment in which no candidate writes an answer."""
    given = experiment.model_fields_set
    if experiment.chosen_primary != NATS_PER_TOKEN:
        yield f"{at}.primary: `mode: likelihood` is decided by {NATS_PER_TOKEN}; remove it"
    for metric in experiment.guardrails:
        if metric not in _OF_LIKELIHOOD:
            yield (
                f"{at}.guardrails.{metric}: in `mode: likelihood` the candidate writes no answer; "
                f"metrics are {', '.join(_OF_LIKELIHOOD)}"
            )
    if not experiment.margin:
        yield f"{at}.margin: 0, which no engine can be shown to meet; give nats per token, such as 0.02"
    if experiment.chosen_method not in ("hybrid", "anytime"):
        yield f"{at}.method: {experiment.chosen_method} needs values with bounds; log-probabilities have none"
    if "max_pairs" in given and experiment.chosen_method != "hybrid":
        yield f"{at}.max_pairs: has no effect with `method: {experiment.chosen_method}`; remove it"
    for key in ("aa", "compare", "adjust"):
        if key in given:
            yield f"{at}.{key}: has no effect with `mode: likelihood`, whose arms take one path; remove it"
    if "apis" in experiment.allow.model_fields_set and "chat" not in experiment.allow.apis:
        yield f"{at}.allow.apis: `mode: likelihood` reads chat answers only; add chat"


def _method_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    given, method, share = experiment.model_fields_set, experiment.chosen_method, experiment.repeat_share
    if experiment.stationary is not None and experiment.method and experiment.stationary != (method == "stationary"):
        stationary = str(experiment.stationary).lower()
        yield f"{at}.stationary: {stationary} contradicts `method: {method}`; remove `stationary`"
    ends = method == "hybrid" or (method == "anytime" and experiment.family == "best")
    if "max_pairs" in given and (not ends or experiment.chosen_mode != "shadow"):
        setting = f"method: {method}" if not ends else "ramp" if experiment.ramp else f"mode: {experiment.mode}"
        yield f"{at}.max_pairs: has no effect with `{setting}`; remove it"
    if not experiment.shadows:
        for key in ("aa", "compare", "adjust", "population"):
            if key in given:
                unit = ", which counts its `unit`" if key == "population" else ""
                yield f"{at}.{key}: has no effect with `mode: split`{unit}; remove it"
        return
    if experiment.compare == "repeat" and share != 1:
        yield f"{at}.repeat_control: {share:g}, but `compare: repeat` needs every pair's repeat; remove it"
    elif experiment.aa == "alarm" and not share and not experiment.guarded:
        yield (
            f"{at}.repeat_control: 0, so the A/A alarm never sees the control twice and cannot go off; give a share "
            "above 0 (default 0.25), or `compare: repeat`"
        )


def _deadline_mistakes(at: str, experiment: Experiment, model: Model | None) -> Iterator[str]:
    total_s = (Timeouts() if model is None else model.timeouts).total_s
    deadline_s = experiment.deadline_s
    if deadline_s is not None and deadline_s < total_s:
        yield (
            f"{at}.deadline_s: {deadline_s:g} is below the {total_s:g} s that a served answer may take "
            f"(models.{experiment.model}.timeouts.total_s): slow answers would fail in one arm only"
        )


def unpriced_budgets(config: Config) -> list[str]:
    """A budget in USD needs a price for each target that it pays for."""
    prices = prices_of(config)
    mistakes = []
    for name, experiment in config.experiments.items():
        if experiment.budget.usd_per_day is None or not experiment.shadows:
            continue
        paid = [*experiment.arms.values(), *([experiment.control] if experiment.repeat_share else [])]
        for ref in asked_refs(config, paid):
            if prices.of(target_of(ref)) is None:
                target = f"{ref.upstream}/{ref.model}"
                mistakes.append(
                    f"experiments.{name}.budget.usd_per_day: no price is known for {target}; give one under "
                    f'prices.models."{target}" (0 for a model of your own), or use tokens_per_day'
                )
    return mistakes
