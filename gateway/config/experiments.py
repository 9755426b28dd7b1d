"""The section `experiments` of gateway.yaml and the plans it makes. config_experiment_mistakes.py checks it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from gateway.config.types import Name, Positive, Section, Share, number
from gateway.core.exchange import Target
from gateway.core.plan import CANDIDATE, Guardrail, Mode, Plan, Unit

if TYPE_CHECKING:
    from gateway.config.loading import Config

_SPLIT, _SHADOW, _REPEAT = 0.5, 0.1, 0.25  # shares where the section says nothing


def _moment(value: Any) -> float:
    """A time of the file as Unix seconds; without an offset it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"expected a time such as 2026-12-01T09:00:00Z, got {value!r}") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError(f"expected a time such as 2026-12-01T09:00:00Z, got {value!r}")
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def _start(value: Any) -> Any:
    return value if value in ("auto", "manual") else _moment(value)


Moment = Annotated[float, PlainValidator(_moment)]
Margin = Annotated[float, BeforeValidator(number), Field(ge=0, le=1e9, allow_inf_nan=False)]
ModelName = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[\x21-\x7e]+$")]


class ArmTarget(Section):
    """upstream: one of `upstreams`. model: what that upstream calls it."""

    upstream: str
    model: ModelName


class ExperimentBudget(Section):
    """What the shadows of one experiment may use. usd_per_day, tokens_per_day: by UTC day, all gateways together, input
    and output of every arm. concurrency: requests at once, in each gateway process."""

    usd_per_day: Positive | None = None
    tokens_per_day: Annotated[int, Field(gt=0)] | None = None
    concurrency: Annotated[int, Field(gt=0)] = 4


class AllowList(Section):
    """keys: the callers whose prompts may go to a candidate; None: all. apis: the routes."""

    keys: tuple[str, ...] | None = None
    apis: Annotated[tuple[Literal["chat", "completions"], ...], Field(min_length=1)] = ("chat", "completions")


class ShadowGate(Section):
    """When shadows yield. latency: while the served answers' p99 is higher than it is without shadows. load: while a
    target reports more requests waiting than this; None: never for that."""

    latency: bool = True
    load: Annotated[float, Field(ge=0)] | None = 2.0


class Experiment(Section):
    """One control target of an alias, and candidates beside it.

    model: the alias. control: one of its targets. candidate, candidates: who might take its place; one, or several by
    name. mode: shadow (asked beside the control, unseen), split (serves a share), or both.

    shadow: head rate over all eligible requests. split: the share of units that candidates serve, in equal parts.
    repeat_control: of the shadowed requests, for how many the control is asked again. record: the rate at which split
    answers are recorded, where `sampling` gives no higher one. start: auto (by the first gateway that reads it), manual
    (`gateway ab start`) or a time. stop: a time; None: when
    it is stopped. enabled: False is the kill switch.

    unit: what keeps its arm in a split, and what is independent of each other. primary: the metric that decides; None:
    the first scorer's. margin: the loss in it that would not matter. alpha: the risk of a wrong verdict. guardrails:
    metrics that may not worsen, each with its own margin. strata: what the report tells apart. stationary: assumes that
    traffic does not drift. deadline_s: how long a pair waits for its other half; None: as long as its calls may take.
    budget, allow, gate: what shadows may use, whose calls they may see, and when they yield.
    """

    model: str
    control: ArmTarget
    candidate: ArmTarget | None = None
    candidates: dict[Name, ArmTarget] = Field({})
    mode: Mode = "shadow"
    shadow: Share | None = None
    split: Share | None = None
    repeat_control: Share | None = None
    record: Annotated[float, Field(gt=0, le=1)] = 1.0
    unit: Unit = "request"
    primary: str | None = None
    margin: Margin = 0.02
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    guardrails: dict[str, Margin] = Field({})
    strata: tuple[str, ...] = ()
    stationary: bool = False
    deadline_s: Positive | None = None
    budget: ExperimentBudget = ExperimentBudget()
    allow: AllowList = AllowList()
    gate: ShadowGate = ShadowGate()
    start: Annotated[Literal["auto", "manual"] | float, PlainValidator(_start)] = "auto"
    stop: Moment | None = None
    enabled: bool = True

    @property
    def arms(self) -> dict[str, ArmTarget]:
        return {CANDIDATE: self.candidate} if self.candidate else self.candidates

    @property
    def shadows(self) -> bool:
        return self.mode != "split"

    @property
    def splits(self) -> bool:
        return self.mode != "shadow"

    @property
    def shadow_share(self) -> float:
        return 0.0 if not self.shadows else _SHADOW if self.shadow is None else self.shadow

    @property
    def split_share(self) -> float:
        return 0.0 if not self.splits else _SPLIT if self.split is None else self.split

    @property
    def repeat_share(self) -> float:
        return 0.0 if not self.shadows else _REPEAT if self.repeat_control is None else self.repeat_control

    def summary(self) -> str:
        """For people, in a few words."""
        shares = [f"shadow on {self.shadow_share:.0%}"] if self.shadows else []
        shares += [f"split {self.split_share:.0%}"] if self.splits else []
        return ", ".join(shares) if self.enabled else "off"


def plan_of(name: str, experiment: Experiment, total_s: float | None = None) -> Plan:
    """Freezes an experiment: all of it but what only paces it (budget, gate) or switches it (enabled, start: manual).

    total_s: of the alias, for the deadline of a section that gives none.
    """
    return Plan(
        name=name,
        model=experiment.model,
        control=target_of(experiment.control),
        candidates=tuple((arm, target_of(ref)) for arm, ref in sorted(experiment.arms.items())),
        mode=experiment.mode,
        shadow=experiment.shadow_share,
        split=experiment.split_share,
        repeat_control=experiment.repeat_share,
        unit=experiment.unit,
        primary=experiment.primary,
        margin=experiment.margin,
        alpha=experiment.alpha,
        guardrails=tuple(Guardrail(metric, margin) for metric, margin in sorted(experiment.guardrails.items())),
        strata=experiment.strata,
        stationary=experiment.stationary,
        keys=None if experiment.allow.keys is None else tuple(sorted(set(experiment.allow.keys))),
        apis=tuple(sorted(set(experiment.allow.apis))),
        deadline_s=experiment.deadline_s or total_s,
        start=experiment.start if isinstance(experiment.start, float) else None,
        stop=experiment.stop,
    )


def plans_of(config: Config) -> dict[str, Plan]:
    """The plan of each experiment of a config, by name."""
    models = config.models
    return {n: plan_of(n, e, models[e.model].timeouts.total_s) for n, e in config.experiments.items()}


def target_of(ref: ArmTarget) -> Target:
    return Target(ref.upstream, ref.model)
