"""Which experiment a call is in, and whether its shadow is asked. Pure: the same call, the same answer, everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import orjson

from gateway.config import Experiment
from gateway.draw import draw
from gateway.exchange import Target
from gateway.proxy.call import Call


@dataclass(frozen=True, slots=True)
class Plan:
    """An experiment as it runs. hash: of everything that decides its result; a change is a new plan."""

    name: str
    hash: str
    control: Target
    candidate: Target
    shadow: float
    keys: frozenset[str] | None  # whose prompts may go to the candidate; None: everyone's
    deadline_s: float | None
    concurrency: int
    tokens_per_day: int | None


class Plans:
    """The experiments of one config, by alias: the config allows one an alias."""

    def __init__(self, experiments: Mapping[str, Experiment]) -> None:
        self._by_alias: dict[str, Plan] = {}
        for name, experiment in sorted(experiments.items()):
            self._by_alias.setdefault(experiment.model, plan_of(name, experiment))

    def of(self, call: Call) -> Plan | None:
        plan = self._by_alias.get(call.alias)
        if plan is None or call.api not in ("chat", "completions"):
            return None
        return plan if plan.keys is None or call.caller.name in plan.keys else None

    def all(self) -> tuple[Plan, ...]:
        return tuple(self._by_alias.values())


def plan_of(name: str, experiment: Experiment) -> Plan:
    """Freezes an experiment. The hash covers its section of the config, without the budget that only paces it."""
    text = orjson.dumps(experiment.model_dump(mode="json", exclude={"budget"}), option=orjson.OPT_SORT_KEYS)
    control, candidate = experiment.control, experiment.candidate
    return Plan(
        name=name,
        hash=sha256(text).hexdigest()[:16],
        control=Target(control.upstream, control.model),
        candidate=Target(candidate.upstream, candidate.model),
        shadow=experiment.shadow,
        keys=None if experiment.allow.keys is None else frozenset(experiment.allow.keys),
        deadline_s=experiment.deadline_s,
        concurrency=experiment.budget.concurrency,
        tokens_per_day=experiment.budget.tokens_per_day,
    )


def shadowed(plan: Plan, call_id: str) -> bool:
    """Whether this call's shadow is drawn: an own domain for each plan, so that draws are independent."""
    return draw(f"shadow:{plan.hash}", call_id) < plan.shadow
