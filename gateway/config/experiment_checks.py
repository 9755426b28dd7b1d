"""What is wrong with the experiments of a gateway.yaml, in words: of references on what could be read, so that one run
names all; of sense once a section can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gateway.config.checks import no_upstream, section
from gateway.config.experiments import Experiment, target_of
from gateway.config.prices import prices_of
from gateway.core.did_you_mean import did_you_mean
from gateway.core.plan import BUILT_IN_METRICS, CONTROL, REPEAT, STRATA

if TYPE_CHECKING:
    from gateway.config.loading import Config

_TOTAL_S = 600.0  # config.Timeouts.total_s where an alias says nothing


def experiment_mistakes(raw: dict[str, Any]) -> list[str]:
    """What the experiments say of other sections, of each other and of themselves, and cannot mean."""
    found = section(raw, "experiments")
    out = [m for name, each in found.items() for m in _of_one(raw, name, each)]
    for (a, one), (b, other) in combinations(found.items(), 2):
        same = one.get("model") == other.get("model") and isinstance(one.get("model"), str)
        if same and not _apart(one, other):
            out.append(
                f'experiments.{b}.model: "{other["model"]}" is in experiments.{a} already, and a call can be in one; '
                "give both `allow: {keys: […]}` without a common key, or one `enabled: false`"
            )
    return out


def _apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """No call can be in both."""
    keys = [_keys(each) for each in (one, other)]
    off = one.get("enabled") is False or other.get("enabled") is False
    return off or (keys[0] is not None and keys[1] is not None and not set(keys[0]) & set(keys[1]))


def _keys(experiment: dict[str, Any]) -> list[str] | None:
    allow = experiment.get("allow")
    keys = allow.get("keys") if isinstance(allow, dict) else None
    return [str(key) for key in keys] if isinstance(keys, list) else None


def _of_one(raw: dict[str, Any], name: str, experiment: dict[str, Any]) -> Iterator[str]:
    at = f"experiments.{name}"
    models = section(raw, "models")
    alias = experiment.get("model")
    if isinstance(alias, str) and alias not in models:
        yield f'{at}.model: no model "{alias}"{did_you_mean(alias, models)}'
    yield from _arm_mistakes(at, experiment, raw)
    yield from _control_mistakes(at, experiment, models.get(str(alias), {}))
    given = raw.get("keys")
    names = [k.get("name") for k in given if isinstance(k, dict)] if isinstance(given, list) else []
    for i, key in enumerate(_keys(experiment) or ()):
        if key not in names:
            yield f'{at}.allow.keys[{i}]: no key "{key}"{did_you_mean(key, names)}'
    yield from _metric_mistakes(at, experiment, section(raw, "scorers"))
    try:
        read = Experiment.model_validate(experiment)
    except ValidationError:
        return  # said already
    yield from _sense(at, read, models.get(str(alias), {}))


def _arm_mistakes(at: str, experiment: dict[str, Any], raw: dict[str, Any]) -> Iterator[str]:
    several = section(experiment, "candidates")
    if ("candidate" in experiment) == bool(several):
        yield (
            f"{at}.candidate: give one candidate, or several by the names of their arms under `candidates`"
            f"{', not both' if several else ''}"
        )
    for arm in several:
        if arm in (CONTROL, REPEAT):
            yield f'{at}.candidates.{arm}: "{arm}" is the name of the control\'s own arm; choose another'
    arms = {arm: experiment.get(arm) for arm in ("control", "candidate")}
    for arm, target in (arms | {f"candidates.{n}": t for n, t in several.items()}).items():
        if isinstance(target, dict) and isinstance(target.get("upstream"), str):
            yield from no_upstream(f"{at}.{arm}.upstream", target["upstream"], raw)


def _control_mistakes(at: str, experiment: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    control = experiment.get("control")
    targets = model.get("targets")
    if not isinstance(control, dict) or not isinstance(targets, list):
        return
    wanted = (control.get("upstream"), control.get("model"))
    if not any(isinstance(t, dict) and (t.get("upstream"), t.get("model")) == wanted for t in targets):
        yield f"{at}.control: {wanted[0]}/{wanted[1]} is no target of models.{experiment.get('model')}"


def _metric_mistakes(at: str, experiment: dict[str, Any], scorers: Mapping[str, Any]) -> Iterator[str]:
    known = [*scorers, *BUILT_IN_METRICS]
    primary, guardrails = experiment.get("primary"), experiment.get("guardrails")
    names = {"primary": primary} if isinstance(primary, str) else {}
    if isinstance(guardrails, dict):
        names |= {f"guardrails.{metric}": str(metric) for metric in guardrails}
        if primary in guardrails:
            yield f'{at}.guardrails.{primary}: "{primary}" is the primary metric, which has its margin already'
    for path, metric in names.items():
        if metric not in known:
            meant = did_you_mean(metric, known) or f"; there are {', '.join(known)}"
            yield f'{at}.{path}: no scorer and no metric "{metric}"{meant}'
    strata = experiment.get("strata")
    for i, stratum in enumerate(strata if isinstance(strata, list) else ()):
        if stratum not in STRATA:
            yield f'{at}.strata[{i}]: expected one of {", ".join(STRATA)}, got "{stratum}"'


def _sense(at: str, experiment: Experiment, model: dict[str, Any]) -> Iterator[str]:
    shadows, splits = experiment.shadows, experiment.splits
    for key, used in (("shadow", shadows), ("repeat_control", shadows), ("split", splits)):
        if key in experiment.model_fields_set and not used:
            yield f"{at}.{key}: means nothing with `mode: {experiment.mode}`; leave it out, or say `mode: both`"
    if "record" in experiment.model_fields_set and not experiment.splits:
        yield f"{at}.record: means nothing with `mode: shadow`, whose answers are always recorded"
    timeouts = model.get("timeouts")
    total_s = timeouts.get("total_s", _TOTAL_S) if isinstance(timeouts, dict) else _TOTAL_S
    deadline_s = experiment.deadline_s
    if deadline_s is not None and isinstance(total_s, int | float) and deadline_s < total_s:
        yield (
            f"{at}.deadline_s: {deadline_s:g} is below the {total_s:g} s that a served answer may take "
            f"(models.{experiment.model}.timeouts.total_s): slow answers would fail in one arm only"
        )
    at_once = len(experiment.arms) + (experiment.repeat_share > 0)
    if experiment.shadows and experiment.budget.concurrency < at_once:
        yield (
            f"{at}.budget.concurrency: {experiment.budget.concurrency} is below the {at_once} requests of one shadow "
            "(each candidate, and the control again): none could be asked"
        )
    start, stop = experiment.start, experiment.stop
    if isinstance(start, float) and stop is not None and stop <= start:
        yield f"{at}.stop: not after its start"


def unpriced(config: Config) -> list[str]:
    """A budget in USD needs a price for each target it pays."""
    prices = prices_of(config)
    out = []
    for name, experiment in config.experiments.items():
        if experiment.budget.usd_per_day is None or not experiment.shadows:
            continue
        paid = [*experiment.arms.values(), *([experiment.control] if experiment.repeat_share else [])]
        for ref in paid:
            target = target_of(ref)
            if prices.of(target) is None:
                out.append(
                    f"experiments.{name}.budget.usd_per_day: no price is known for {target}; give one under "
                    f'prices.models."{target}" (0 for a model of your own), or use tokens_per_day'
                )
    return out
