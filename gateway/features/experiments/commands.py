"""Makes, starts and stops experiments for the console. Plain functions, as in features/keys/directory.py.

An experiment that is made here goes into a file next to gateway.yaml, see config/made_experiments.py, because gateways
run only what their own config names: a plan on the stream server alone would send prompts where no config allows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from gateway.config.config import Config
from gateway.config.derive import feedback_without_range, plans_of
from gateway.config.loading import load_for_console
from gateway.config.made_experiments import MadeExperiments, file_text, read_made
from gateway.config.types import Name, Section
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.errors import Conflict, InvalidBody, NotThere, StoreAway
from gateway.core.errors import CannotRun, ConfigError, StreamDown
from gateway.core.plan import Plan, PlanState
from gateway.features.experiments.judges import plan_judge_cautions
from gateway.features.experiments.start import start_stop
from gateway.features.experiments.start.more import ContinuedPlan, continuation, start_more
from gateway.features.experiments.start.start_stop import PlanToStart
from gateway.features.keys.settings import checked
from gateway.store.directory import Action, AuditRow, add_audit
from gateway.stream.shared_state import SharedState

T = TypeVar("T")


class NewExperiment(Section):
    """A comparison of one target of a model with one candidate: another model, or a guard."""

    name: Name
    """Name of the experiment in reports, metrics and commands."""
    model: str
    """A name of the section `models`."""
    control: str
    """The model's target that is in use, as upstream/model."""
    guard: str = ""
    """The guard that is the candidate, in place of a model; "" means that a model is."""
    upstream: str = ""
    """The candidate's upstream. Of a guard it says nothing."""
    candidate_model: str = ""
    """The upstream's name for the candidate's model; "" means that a guard is the candidate."""
    system: str = ""
    """A system message of the candidate; "": the clients' own."""
    temperature: float | None = Field(None, ge=0, le=2)
    """A temperature of the candidate."""
    mode: Literal["shadow", "split"] = "shadow"
    """`shadow`: clients never see the candidate's answers. `split`: the candidate serves a share."""
    share: float = Field(0.1, gt=0, le=1)
    """Share of the requests that the candidate gets."""
    primary: str = ""
    """The metric that decides."""
    margin: float = Field(0.02, ge=0, le=1e9)
    """The largest loss in it that is accepted."""
    guardrails: dict[str, float] = Field({})
    """Metrics that must not get worse by more than their margin."""
    ramp: bool = False
    """Whether the candidate takes over the traffic by steps, each of which a person takes; then `mode` says nothing."""
    usd_per_day: float | None = Field(None, gt=0)
    """The most that shadow requests may cost in a UTC day."""

    @model_validator(mode="after")
    def _one_candidate(self) -> NewExperiment:
        if self.guard and self.candidate_model:
            raise ValueError(f"candidate_model: the guard {self.guard} is the candidate already; leave the model empty")
        if not self.guard and not (self.upstream and self.candidate_model):
            missing = "candidate_model" if self.upstream else "upstream"
            raise ValueError(f"{missing}: is missing; a candidate is a model of an upstream, or a guard")
        return self

    def section(self) -> dict[str, Any]:
        """The experiment's section as in gateway.yaml."""
        upstream, _, model = self.control.partition("/")
        named = {"upstream": self.upstream, "model": self.candidate_model}
        candidate: dict[str, Any] = {"guard": self.guard} if self.guard else named
        candidate |= {"system": self.system} if self.system else {}
        candidate |= {"set": {"temperature": self.temperature}} if self.temperature is not None else {}
        found: dict[str, Any] = {
            "model": self.model,
            "control": {"upstream": upstream, "model": model},
            "candidate": candidate,
            **(
                {"shadow": self.share, "ramp": {"mode": "advise"}}
                if self.ramp
                else {"mode": self.mode, self.mode: self.share}
            ),
        }
        if self.primary:
            found |= {"primary": self.primary, "margin": self.margin}
        found |= {"guardrails": self.guardrails} if self.guardrails else {}
        found |= {"budget": {"usd_per_day": self.usd_per_day}} if self.usd_per_day is not None else {}
        return found | {"start": "manual"}


class ReadOnly(Conflict):
    """The file next to gateway.yaml cannot be written. text: the section to put into gateway.yaml instead."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


@dataclass(frozen=True, slots=True)
class ExperimentAdmin:
    """Services that the functions of this module use."""

    admin: Admin
    states: SharedState
    config_path: Path
    read_config: Callable[[], Awaitable[None]]
    """Puts the changed file in force in this process."""


@dataclass(frozen=True, slots=True)
class StartedExperiment:
    plan: Plan
    before: PlanState | None
    cautions: tuple[str, ...]
    """Sentences that the person who starts it should read."""

    @property
    def was_running(self) -> bool:
        return self.before is not None and self.before.running and self.before.plan.hash == self.plan.hash


async def start_experiment(of: ExperimentAdmin, actor: Actor, name: str) -> StartedExperiment:
    """Freezes the plan and puts it in force. Raises NotThere, Conflict, StoreAway."""
    actor.require("operator", "start experiments")
    config = of.admin.config()
    plan = _enabled_plan(config, name)
    wanted: PlanToStart = await of.admin.store.read(lambda c: start_stop.prepared(c, plan))
    wanted = replace(wanted, refusal=wanted.refusal or feedback_without_range(config, plan))
    judged = await of.admin.store.read(lambda c: plan_judge_cautions(c, plan))
    before = await _on_stream(start_stop.start(of.states, wanted, config.experiments))
    in_force = (await _on_stream(of.states.plans()))[name].plan
    started = StartedExperiment(in_force, before, (*wanted.cautions, *judged))
    if not started.was_running:
        await _audited(of, actor, "start", name, {"plan": started.plan.hash})
    return started


def _enabled_plan(config: Config, name: str) -> Plan:
    """Raises NotThere, Conflict."""
    plan = plans_of(config).get(name)
    if plan is None:
        raise NotThere(f'there is no experiment "{name[:200]}" in the config')
    if not config.experiments[name].enabled:
        raise Conflict(f"experiments.{name}.enabled is false in the config; set it to true")
    return plan


async def continue_experiment(of: ExperimentAdmin, actor: Actor, name: str) -> ContinuedPlan:
    """Lets a plan that closed without a verdict go on after its last look. Raises NotThere, Conflict, StoreAway."""
    actor.require("operator", "start experiments")
    config = of.admin.config()
    plan = _enabled_plan(config, name)
    try:
        wanted = await of.admin.store.read(lambda c: continuation(c, plan))
    except CannotRun as error:
        raise Conflict(str(error)) from None
    await _on_stream(start_more(of.states, wanted, config.experiments))
    await _audited(of, actor, "start", name, {"plan": wanted.plan.hash, "more": wanted.price.pairs})
    return wanted


async def stop_experiment(of: ExperimentAdmin, actor: Actor, name: str) -> PlanState:
    """Returns the state before. Raises NotThere, Conflict, StoreAway."""
    actor.require("operator", "stop experiments")
    before = await _on_stream(start_stop.stop(of.states, name))
    if before is None:
        raise NotThere(f'no experiment "{name[:200]}" has been started')
    if before.running:
        await _audited(of, actor, "stop", name, {"plan": before.plan.hash})
    return before


async def make_experiment(of: ExperimentAdmin, actor: Actor, body: Mapping[str, Any]) -> NewExperiment:
    """Writes an experiment into the file next to gateway.yaml, which gateways read within a second.

    The role is owner, because a candidate's upstream gets callers' prompts. Raises InvalidBody, Conflict; ReadOnly if
    the file cannot be written.
    """
    actor.require("owner", "make experiments")
    new = checked(NewExperiment, {name: value for name, value in body.items() if value not in ("", None)})
    if new.name in of.admin.config().experiments:
        raise Conflict(f'there is an experiment "{new.name}" already; choose another name')
    made = await asyncio.to_thread(_checked_file, of.config_path, new)
    try:
        await asyncio.to_thread(made.write)
    except OSError as error:
        raise ReadOnly(
            f"{made.path.name} cannot be written next to gateway.yaml ({error.strerror}); "
            "add these lines to gateway.yaml",
            file_text({new.name: new.section()}),
        ) from None
    await of.read_config()
    await _audited(of, actor, "create", new.name, new.section())
    return new


async def remove_experiment(of: ExperimentAdmin, actor: Actor, name: str) -> None:
    """Takes one that was made here out of its file; its evidence stays. Raises NotThere, Conflict."""
    actor.require("owner", "remove experiments")
    made = await asyncio.to_thread(read_made, of.config_path)
    if name not in made.sections():
        raise NotThere(f'the experiment "{name[:200]}" was not made in the console; look for it in gateway.yaml')
    state = (await _on_stream(of.states.plans())).get(name)
    if state is not None and state.running:
        raise Conflict(f"{name} is running; stop it first")
    before = made.sections()[name]
    try:
        await asyncio.to_thread(made.with_experiment(name, None).write)
    except OSError as error:
        raise Conflict(f"{made.path.name} cannot be written: {error.strerror}") from None
    await of.read_config()
    await _audited(of, actor, "delete", name, None, before)


def _checked_file(path: Path, new: NewExperiment) -> MadeExperiments:
    """The file with the experiment, after the whole config was checked with it. Raises InvalidBody."""
    try:
        made = read_made(path).with_experiment(new.name, new.section())
        load_for_console(path, made)
    except ConfigError as error:
        mistakes = tuple(mistake.removeprefix(f"{path.name}: ") for mistake in error.mistakes)
        raise InvalidBody("the experiment cannot run as it is", mistakes) from None
    return made


def targets_of(config: Config) -> list[tuple[str, str]]:
    """(model, upstream/model) of each target that may be a control: those without a variant of their own."""
    return [
        (alias, f"{ref.upstream}/{ref.model}")
        for alias, model in config.models.items()
        for ref in model.targets
        if not (ref.route or ref.set or ref.system or ref.headers)
    ]


async def _on_stream(work: Awaitable[T]) -> T:
    try:
        return await work
    except StreamDown as error:
        raise StoreAway(f"{error}; whether the change was made is unknown", retry_after_s=2) from None
    except CannotRun as error:
        raise Conflict(str(error)) from None


async def _audited(
    of: ExperimentAdmin,
    actor: Actor,
    action: Action,
    name: str,
    after: Mapping[str, Any] | None,
    before: Mapping[str, Any] | None = None,
) -> None:
    row = AuditRow(of.admin.clock(), actor.name, actor.role, action, "experiment", name, before, after)
    await of.admin.store.run(lambda connection: add_audit(connection, row))
