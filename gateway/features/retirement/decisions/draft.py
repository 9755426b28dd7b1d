"""The draft of an experiment that asks whether a decision model may answer an alias, and what that saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.config import Config
from gateway.config.derive import prices_of, target_of
from gateway.config.upstreams import TargetRef
from gateway.core.exchange import Target, Usage
from gateway.core.providers import CHATS
from gateway.core.wildcards import is_pattern
from gateway.features.experiments.start.decisions import DAY_S, DecisionCalls, decision_calls
from gateway.features.retirement.draft import ExperimentDraft, NoDraft
from gateway.store.query import Reading

LEAST_SHARE = 0.1
"""Share of an alias's calls that have to be decisions for a draft."""
METRICS = ("decision_right", "decision_agrees")
"""Scorers that may decide, the better one first: it needs references."""


@dataclass(frozen=True, slots=True)
class DecidingAlias:
    """A model name of clients, of whose recorded calls some are decisions."""

    alias: str
    calls: DecisionCalls
    """Calls of the last day."""

    def saved_usd(self, config: Config, target: Target) -> float | None:
        """Dollars that a day of decisions costs less at the decision model; None if a price is not known."""
        price = prices_of(config).cost(target, Usage(round(self.calls.input_tokens), 0))
        return None if price is None or self.calls.usd is None else self.calls.usd - price

    def line(self, config: Config, target: Target | None) -> str:
        """The finding in a sentence. target: the decision model; None if none is named."""
        found = f"{self.alias}: {self.calls.decisions} of {self.calls.read} recorded calls are decisions"
        if self.calls.usd is not None:
            found += f"; a day of them costs {self.calls.usd:.2f} USD"
        saved = None if target is None else self.saved_usd(config, target)
        return found if saved is None else f"{found}, and {saved:.2f} USD less at {target}"


def deciding_aliases(connection: Reading, config: Config, now: float, alias: str | None = None) -> list[DecidingAlias]:
    """The aliases with decisions among the calls of the last day, those that cost the most first. now: Unix seconds."""
    names = [name for name in config.models if not is_pattern(name) and alias in (None, name)]
    read = [DecidingAlias(name, decision_calls(connection, name, None, now - DAY_S)) for name in names]
    shown = [one for one in read if one.calls.share >= LEAST_SHARE]
    return sorted(shown, key=lambda one: (-(one.calls.usd or 0.0), -one.calls.calls, one.alias))


def decision_target(config: Config, name: str) -> TargetRef:
    """The decision model that UPSTREAM/MODEL names. Raises NoDraft for one that has no decisions."""
    upstream, slash, model = name.partition("/")
    if not slash or not model or upstream not in config.upstreams:
        raise NoDraft(f"{name!r} is not UPSTREAM/MODEL with an upstream of the config")
    section = config.upstreams[upstream]
    if section.decision_format is None or section.provider.dialect not in CHATS:
        raise NoDraft(f"the upstream {upstream} has no API of decisions; set `decisions` of it, or name another one")
    return TargetRef.model_validate({"upstream": upstream, "model": model, "as": "decision"})


@dataclass(frozen=True, slots=True)
class DecisionDraft(ExperimentDraft):
    """A draft whose candidate is asked for decisions."""

    apis: tuple[str, ...] = ()
    """The APIs of the calls that are decisions."""

    def section(self, control: Mapping[str, Any]) -> dict[str, Any]:
        made = ExperimentDraft.section(self, control)
        made["candidate"] = {"upstream": self.upstream, "model": self.model, "as": "decision"}
        made["allow"] = {"apis": [*self.apis]}
        return made


def draft_of_decisions(config: Config, deciding: DecidingAlias, candidate: TargetRef) -> DecisionDraft:
    """Raises NoDraft where no scorer compares decisions, or an experiment compares the two already."""
    primary = next((name for name in METRICS if name in config.scorers), None)
    if primary is None:
        raise NoDraft("no scorer compares decisions: add `decision_agrees: {}` to `scorers`, or, with references, "
                      "`decision_right: {}`")  # fmt: skip
    target = target_of(candidate)
    for name, experiment in config.experiments.items():
        if experiment.model == deciding.alias and target in [target_of(arm) for arm in experiment.arms.values()]:
            raise NoDraft(f"the experiment {name} compares them already: gateway ab status {name}")
    name = f"{deciding.alias}-decision"
    while name in config.experiments:
        name += "-2"
    shadow = 0.2 if deciding.calls.calls else 1.0
    return DecisionDraft(
        name, deciding.alias, 0, candidate.upstream, candidate.model, shadow, primary, 0.05, apis=deciding.calls.apis
    )
