"""The draft of an experiment that compares a retiring model with its successor. Pure.

Its price is that of `gateway ab power` before there are pairs, at the calls a day that the target answers. The share of
calls that is shadowed is the smallest of SHARES at which the verdict comes within a week, and within half of the days
that are left, so that a ramp has time as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import yaml

from gateway.config.config import Config
from gateway.config.derive import plan_of, target_of
from gateway.config.experiments import Experiment
from gateway.config.made_experiments import SECTION
from gateway.config.yaml_text import yaml_sections
from gateway.core.errors import ConfigError
from gateway.core.exchange import Target
from gateway.core.json_values import as_list, as_object
from gateway.core.plan import StoredPlan
from gateway.core.wildcards import is_pattern
from gateway.reports.number_format import counted, span
from gateway.verdict.price.forecast import Terms, forecast

SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
UNKNOWN_SHARE = 0.2
"""The share where nothing is known of the traffic."""
MOST_DAYS = 7.0
ERRORS, ERROR_MARGIN = "error_rate", 0.01
"""The guardrail; and the primary where no judge says whether an answer is good."""
_TARGET_KEYS = ("upstream", "model", "set", "system", "headers")


class NoDraft(Exception):
    """Reason why no experiment can be drafted."""


@dataclass(frozen=True, slots=True)
class ReplacedTarget:
    """A target of a model name that is to be replaced, or may be."""

    alias: str
    target: Target
    successor: str | None = None
    """MODEL of the same upstream, or UPSTREAM/MODEL."""
    days_left: int | None = None
    """Days until it retires; None if it has no date."""
    served: bool = True
    """Whether it serves; False if it is only a fallback."""

    @property
    def name(self) -> str:
        return f"{self.target.upstream}/{self.target.model}"


@dataclass(frozen=True, slots=True)
class ExperimentDraft:
    """An experiment that does not exist yet. It repeats no header of the target, which may hold a secret."""

    name: str
    alias: str
    position: int
    """Position of the control among the alias's targets."""
    upstream: str
    """The candidate's upstream."""
    model: str
    shadow: float
    primary: str
    margin: float
    requests: int | None = None
    """Paid requests until the verdict; None if not known."""
    days: float | None = None
    """Days until the verdict; None if nothing is known of the traffic."""

    @property
    def summary(self) -> str:
        """ "Draft the experiment against gpt-6-mini: 1 400 requests, 6 days at shadow 0.2"."""
        parts = [] if self.requests is None else [counted(self.requests, "request")]
        parts += ["time unknown" if self.days is None else span(self.days)]
        return f"Draft the experiment against {self.model}: {', '.join(parts)} at shadow {self.shadow:g}"

    def section(self, control: Mapping[str, Any]) -> dict[str, Any]:
        """Drafts the section as in gateway.yaml. control: the target with its variant."""
        rails = {} if self.primary == ERRORS else {"guardrails": {ERRORS: ERROR_MARGIN}}
        return {
            "model": self.alias,
            "control": dict(control),
            "candidate": {**deepcopy(dict(control)), "upstream": self.upstream, "model": self.model},
            "mode": "shadow",
            "shadow": self.shadow,
            "primary": self.primary,
            "margin": self.margin,
            **rails,
            "start": "manual",
        }

    def as_written(self, text: str) -> dict[str, Any]:
        """Drafts the section with the control as gateway.yaml writes it, so that no ${NAME} is expanded. text: the
        file's.

        Raises ConfigError, and NoDraft where the file has no such target: it has changed since it was read.
        """
        model = as_object(as_object(yaml_sections(text, "gateway.yaml").get("models")).get(self.alias))
        targets = as_list(model.get("targets"))
        if len(targets) <= self.position:
            raise NoDraft(f"gateway.yaml has no such target of {self.alias} any more")
        target = as_object(targets[self.position])
        return self.section({key: target[key] for key in _TARGET_KEYS if key in target})


def yaml_of(name: str, section: Mapping[str, Any]) -> str:
    """The text for gateway.yaml or the file next to it."""
    return yaml.safe_dump({SECTION: {name: dict(section)}}, sort_keys=False, allow_unicode=True, width=110)


def draft_text(draft: ExperimentDraft, text: str) -> str:
    """The YAML of a draft for a page. text: of gateway.yaml. "" if the file has changed since, or the target has
    headers, which not everyone who reads the page may see.
    """
    try:
        section = draft.as_written(text)
    except (ConfigError, NoDraft):
        return ""
    return "" if "headers" in section["control"] else yaml_of(draft.name, section)


def draft_of(config: Config, of: ReplacedTarget, calls_a_day: float) -> ExperimentDraft:
    """calls_a_day: of this target; 0 if not known. Raises NoDraft."""
    position = _position(config, of)
    upstream, model = _successor(config, of)
    if (known := _comparing(config, of, (upstream, model))) is not None:
        raise NoDraft(f"the experiment {known} compares it with {model} already: gateway ab status {known}")
    name = _free_name(config, of.alias, model)
    primary, margin = _primary(config)
    drafts = (ExperimentDraft(name, of.alias, position, upstream, model, share, primary, margin) for share in SHARES)
    priced = [_priced(config, each, calls_a_day) for each in drafts]
    limit = max(1.0, MOST_DAYS if of.days_left is None else min(MOST_DAYS, of.days_left / 2))
    slowest = priced[-1] if calls_a_day else priced[SHARES.index(UNKNOWN_SHARE)]
    return next((each for each in priced if each.days is not None and each.days <= limit), slowest)


def control_of(config: Config, draft: ExperimentDraft) -> dict[str, Any]:
    """The control with its variant, whose values are expanded."""
    ref = config.models[draft.alias].targets[draft.position]
    return ref.model_dump(include=set(_TARGET_KEYS), exclude_defaults=True)


def _priced(config: Config, draft: ExperimentDraft, calls_a_day: float) -> ExperimentDraft:
    experiment = Experiment.model_validate(draft.section(control_of(config, draft)))
    plan = plan_of(draft.name, experiment, config.models[draft.alias].timeouts.total_s)
    shares = {scorer: each.share for scorer, each in config.scorers.items()}
    terms = Terms(requests_a_day=calls_a_day or None, scorer_shares=shares)
    price = forecast(StoredPlan(plan, plan.hash, "stopped", 0.0), terms).prices[0]
    return replace(draft, requests=price.paid_calls, days=price.days)


def _position(config: Config, of: ReplacedTarget) -> int:
    if is_pattern(of.alias):
        raise NoDraft(f'"{of.alias}" stands for many models, and an experiment compares targets of one')
    targets = [target_of(ref) for ref in config.models[of.alias].targets]
    if of.target not in targets:
        raise NoDraft(f"{of.name} is only a fallback of {of.alias}, so there is nothing to compare; replace it there")
    return targets.index(of.target)


def _successor(config: Config, of: ReplacedTarget) -> tuple[str, str]:
    """(upstream, model) of the candidate."""
    if of.successor is None:
        raise NoDraft(f"no successor of {of.name} is listed; name one with --successor")
    upstream, slash, model = of.successor.partition("/")
    if not slash or upstream not in config.upstreams:
        upstream, model = of.target.upstream, of.successor
    if re.fullmatch(r"[\x21-\x7e]{1,300}", model) is None:
        raise NoDraft(f"{of.successor!r} does not name a model; expected MODEL or UPSTREAM/MODEL")
    if (upstream, model) == (of.target.upstream, of.target.model):
        raise NoDraft(f"{of.name} is the model that is to be replaced; name another one with --successor")
    return upstream, model


def _primary(config: Config) -> tuple[str, float]:
    """The metric that decides and its margin: those of the newest experiment, else a judge's, else the errors'."""
    for experiment in reversed(config.experiments.values()):
        if experiment.primary in config.scorers and experiment.margin > 0:
            return str(experiment.primary), experiment.margin
    judge = next((name for name, scorer in config.scorers.items() if (scorer.use or name) == "judge"), None)
    return (ERRORS, ERROR_MARGIN) if judge is None else (judge, Experiment.model_fields["margin"].default)


def _comparing(config: Config, of: ReplacedTarget, successor: tuple[str, str]) -> str | None:
    """The experiment that compares the two for this alias."""
    for name, experiment in config.experiments.items():
        arms = {(arm.upstream, arm.model) for arm in experiment.arms.values()}
        if experiment.model == of.alias and target_of(experiment.control) == of.target and successor in arms:
            return name
    return None


def _free_name(config: Config, alias: str, model: str) -> str:
    base = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{alias}-to-{model}")[:150]
    names = (base, *(f"{base}-{n}" for n in range(2, len(config.experiments) + 3)))
    return next(name for name in names if name not in config.experiments)
