"""The page Experiments: the verdicts, their evidence, and the buttons that start and stop."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from gateway.config.config import Config
from gateway.config.derive import plans_of, prices_of, refs_of_model
from gateway.config.made_experiments import read_made
from gateway.console.background_reader import BackgroundReader, KeptValue
from gateway.console.errors import AdminError, InvalidBody, NotThere
from gateway.console.forms import Form, form_actor
from gateway.console.frame import Page, PageRoute, PageServices, redirect, render, services_of, visitor_of
from gateway.core.errors import ConfigError, StreamDown
from gateway.core.plan import BUILT_IN_METRICS, HARMED, Plan, PlanState, StoredPlan, current_plan
from gateway.core.ramp import RampEvent, described
from gateway.features.experiments.commands import (
    ExperimentAdmin,
    NewExperiment,
    ReadOnly,
    continue_experiment,
    make_experiment,
    remove_experiment,
    start_experiment,
    stop_experiment,
    targets_of,
)
from gateway.features.experiments.judges import cautions_by_judge, plan_judge_cautions
from gateway.features.experiments.next_button import next_buttons
from gateway.features.experiments.report.build import ExperimentNotFound, ramp_of, reports_of
from gateway.features.ramp.gate import RampGateOutput
from gateway.features.ramp.operations import change_ramp, read_gate
from gateway.ramps.commands import VERBS
from gateway.reports import number_format as say
from gateway.reports.charts import Drawing, IntervalScale, extent, interval_bar
from gateway.reports.model import IntervalTrail, RampHistory, Report
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.store.ramp_events import stored_ramp_events
from gateway.verdict.continuation import CONTINUED_RULES
from gateway.verdict.findings import Finding, findings
from gateway.verdict.outcome import outcome_of
from gateway.verdict.report.html import page_values
from gateway.verdict.report.presentation import TONES, finding_state, ranked_badge
from gateway.verdict.report.price import more_line
from gateway.verdict.sentence import ENDED, MOST, Outcome, verdict_sentence
from gateway.verdict.states import SequenceStates

T = TypeVar("T")
HOME = "/console/experiments"
MOST_LISTED = 50
ROLLED_BACK = "rolled back"
TRAIL_ROWS = 12
MARGIN = NewExperiment.model_fields["margin"].default
"""Margin in an empty form."""
EVENTS_SHOWN = 20
"""Changes of a ramp."""
WAIT_S = 0.12
"""Time to wait for a report; one that takes longer is read in the background, and kept for a while."""
STALE_S = 15.0


@dataclass(frozen=True, slots=True)
class ListedVerdict:
    """One candidate in the list."""

    plan: str
    """Hash of the plan that it is about."""
    candidate: str
    target: str
    badge: str
    tone: str
    sentence: str
    action: str
    pairs: str
    interval: str
    bar: Drawing | None
    """The interval against its margin."""
    done: float | None
    """The share of the pairs that are taken, of those until the verdict. None if it is reached, or not known."""
    ends: float | None
    """Unix time at which the verdict is expected, if nothing changes. None if it is reached, or not known."""
    rolled_back: bool = False
    """Whether its ramp was rolled back."""
    decided: bool = False
    """Whether the verdict is reached."""
    changed: float = 0.0
    """Unix time of the newest change of its plan's state or of its ramp."""


@dataclass(frozen=True, slots=True)
class ListedExperiment:
    name: str
    state: str
    """State: running, rolled back, stopped: harm, stopped, not started, or disabled."""
    since: float | None
    mode: str
    control: str
    in_config: bool
    made_here: bool
    verdicts: tuple[ListedVerdict, ...]
    stopped_for_harm: float = 0.0
    """Unix time of the stop for harm, or of its resumption; 0.0 if there was none."""

    @property
    def changed(self) -> float:
        """Unix time of the newest start, stop, stop for harm or change of a ramp; 0.0 before the first."""
        return max([self.since or 0.0, self.stopped_for_harm, *(verdict.changed for verdict in self.verdicts)])

    @property
    def harmed(self) -> bool:
        return self.state == HARMED

    @property
    def running(self) -> bool:
        """Whether it may be stopped; one that was stopped for harm or rolled back still takes pairs."""
        return self.state in ("running", ROLLED_BACK, HARMED)

    @property
    def url(self) -> str:
        return url_of(self.name)

    @property
    def order(self) -> tuple[int, float]:
        """Running ones come first, and among those the decided ones; the newest change leads each group."""
        decided = any(verdict.decided for verdict in self.verdicts) or self.state in (ROLLED_BACK, HARMED)
        return (0 if self.running else 2) + (0 if decided else 1), -self.changed


def url_of(name: str) -> str:
    return f"{HOME}/of/{quote(name)}"


async def list_page(request: Request) -> Response:
    services = services_of(request)
    config = services.admin.config()
    states, trouble = await states_of(services)
    kept = await _read(services, "list", listed_verdicts)
    if kept is None:
        return _reading(request, "The verdicts")
    verdicts = kept.value
    made = _made_names(services)
    plans = plans_of(config)
    names = [*verdicts, *(n for n in (*plans, *states) if n not in verdicts)]
    rows = [
        _listed(name, config, states.get(name), plans.get(name), verdicts.get(name, ()), name in made)
        for name in dict.fromkeys(names)
    ]
    return render(
        request,
        "experiments.html.jinja",
        headline=headline(rows),
        headers=_again(kept.at),
        rows=sorted(rows, key=lambda row: row.order)[:MOST_LISTED],
        as_of=kept.at,
        trouble=trouble,
    )


def headline(rows: Sequence[ListedExperiment]) -> str:
    """The list in a sentence: how many experiments run, and how far their candidates are."""
    if not rows:
        return "No experiment yet"
    running = sum(row.running for row in rows)
    found = Counter(_standing(each) for row in rows for each in row.verdicts)
    state = rows[0].state if len(rows) == 1 else f"{running or 'none'} running"
    head = f"{say.counted(len(rows), 'experiment')}, {state}"
    words = [word if found.total() == 1 else f"{n} {word}" for word, n in found.most_common()]
    said = f"{head}: {', '.join(words)}"
    return said if found and len(said) <= MOST else head


def _standing(verdict: ListedVerdict) -> str:
    """The badge without its sign and its details, as in "ship", "rolled back" or "at step 2 of 3"."""
    word = verdict.badge.partition(" ")[2].partition(":")[0].lower()
    return f"at {word}" if word.startswith("step") else word


async def _read(services: PageServices, key: Hashable, read: Callable[[Reading], T]) -> KeptValue[T] | None:
    """The value of this key, from the store; None if reading it takes long, and goes on in the background."""
    reader: BackgroundReader = services.kept.setdefault("experiments", BackgroundReader(services.tasks))
    return await reader.get(key, services.store_url, read, WAIT_S)


def _again(at: float) -> dict[str, str]:
    """Headers of a page that loads itself again if what it shows is old: a newer value is being read."""
    return {"refresh": "2"} if time.time() - at > STALE_S else {}


def _reading(request: Request, what: str) -> Response:
    """A page that loads itself again."""
    return render(request, "experiment_reading.html.jinja", headers={"refresh": "1"}, what=what)


def listed_verdicts(connection: Reading) -> dict[str, tuple[ListedVerdict, ...]]:
    """Verdicts on the newest plan of each experiment, by name; the newest experiment first."""
    by_name: dict[str, list[StoredPlan]] = {}
    for each in stored_plans(connection):
        by_name.setdefault(each.plan.name, []).append(each)
    chosen = [plan for plans in by_name.values() if (plan := current_plan(plans)) is not None]
    newest = sorted(chosen, key=lambda plan: -plan.since)[:MOST_LISTED]
    return {plan.plan.name: tuple(_verdicts(connection, plan)) for plan in newest}


def _verdicts(connection: Reading, plan: StoredPlan) -> Iterator[ListedVerdict]:
    evidence, ramp = StoredEvidence(connection, plan), ramp_of(connection, plan)
    look = SequenceStates(evidence)
    for finding in findings(evidence).values():
        yield _verdict(finding, outcome_of(finding, look, ramp), ramp)


def _verdict(found: Finding, outcome: Outcome, ramp: RampHistory | None) -> ListedVerdict:
    plan = found.stored_plan
    if found.best is not None and found.candidate != found.best.leader:
        outcome = replace(outcome, best=None)
    said = verdict_sentence(outcome)
    badge, state = (said.badge, said.state) if found.best is None else ranked_badge(found.best, found.candidate)
    c = found.primary
    over = ramp is not None and ramp.state in ENDED
    p = outcome.progress if found.decision.verdict == "hold" and not over else None
    scale = None if c is None else IntervalScale(extent([c.difference], c.margin), c.margin)
    return ListedVerdict(
        plan=plan.hash,
        candidate=found.candidate,
        target=str(plan.plan.target(found.candidate)),
        badge=badge,
        tone=TONES[state],
        sentence=said.text,
        action=said.action,
        pairs=say.counted(outcome.pairs, outcome.counts),
        bar=None if c is None or scale is None else interval_bar(c.difference, scale, TONES[finding_state(c)]),
        interval="" if c is None else say.interval(c.difference, say.digits_of(c.difference, margin=c.margin)),
        done=outcome.pairs / (outcome.pairs + p.pairs) if p is not None and p.pairs else None,
        ends=time.time() + 86_400 * p.days if p is not None and p.days is not None else None,
        rolled_back=ramp is not None and ramp.state == "rolled_back",
        decided=found.decision.verdict != "hold",
        changed=max([found.stored_plan.since, *(change.at for change in (ramp.changes if ramp else ()))]),
    )


def _listed(
    name: str,
    config: Config,
    state: PlanState | None,
    planned: Plan | None,
    verdicts: Sequence[ListedVerdict],
    made_here: bool,
) -> ListedExperiment:
    plan = state.plan if state else planned
    off = name in config.experiments and not config.experiments[name].enabled
    harm = state.harm if state else None
    return ListedExperiment(
        name=name,
        state="disabled" if off else _state_of(state, verdicts) if state else "not started",
        since=state.since if state else None,
        mode=plan.mode if plan else "",
        control=f"{plan.model}: {plan.control}" if plan else "",
        in_config=planned is not None,
        made_here=made_here,
        verdicts=tuple(each for each in verdicts if state is None or each.plan == state.plan.hash),
        stopped_for_harm=max(harm.at, harm.cleared or 0.0) if harm else 0.0,
    )


def _state_of(state: PlanState, verdicts: Sequence[ListedVerdict]) -> str:
    """The plan's state; after a roll-back, that word: the plan runs, and the control answers every call. One for harm
    has the word of a stop for harm."""
    back = any(each.rolled_back for each in verdicts)
    return ROLLED_BACK if back and state.shown == "running" else state.shown


async def one_page(request: Request) -> Response:
    name = request.path_params["name"]
    services = services_of(request)
    config = services.admin.config()
    states, trouble = await states_of(services)
    kept = await _read(services, ("of", name), lambda c: _reports(c, name, config))
    if kept is None:
        return _reading(request, f"The report of {name[:200]}")
    reports = kept.value
    if not kept.value and name not in config.experiments and name not in states:
        raise NotThere(f'there is no experiment "{name[:200]}"')
    planned = plans_of(config).get(name)
    state = states.get(name)
    ours = [each for each in reports if state is None or each.plan == state.plan.hash]
    earlier = reports[0].plan if reports and not ours else ""
    reports = ours
    report = _chosen(reports, request.query_params.get("candidate", ""))
    ramp, events = await _ramp(services, name, state)
    judged = await _before_start(services, planned, state)
    if judged is None:
        return _reading(request, f"Labels on the judge of {name[:200]}")
    listed = _listed(name, config, state, planned, (), name in _made_names(services))
    return render(
        request,
        "experiment_page.html.jinja",
        headers=_again(kept.at),
        name=name,
        listed=listed,
        plan=state.plan.hash if state else "",
        earlier=earlier,
        candidates=[each.candidate for each in reports],
        as_of=kept.at,
        ramp=ramp,
        events=events,
        values=None if report is None else {**page_values(report, reports), **_horizon(report, state)},
        changed=bool(planned and state and not state.plan.follows_from(planned)),
        next=next_buttons(report, state, config),
        may_go_on=planned is not None and _may_go_on(report, state),
        judged=[text for text in judged if report is None or text not in report.cautions],
        trouble=trouble,
        demo=demo_notice(config, state.plan if state else planned),
    )


def demo_notice(config: Config, plan: Plan | None) -> str:
    """A line on an experiment between scripted models, `kind: fake`; "" for any other."""
    targets = () if plan is None else (plan.control, *(target for _, target in plan.candidates))
    kinds = {config.upstreams[t.upstream].kind for t in targets if t.upstream in config.upstreams}
    if plan is None or kinds != {"fake"}:
        return ""
    hours = "" if plan.min_hours else ", and hours are not covered (min_hours: 0)"
    return f"A demo: its models are scripted{hours}."


def _chosen(reports: Sequence[Report], candidate: str) -> Report | None:
    """The report of this candidate; else of the one that leads, where they are compared with each other; else the
    first."""
    best = reports[0].best if reports else None
    wanted = (candidate, best.leader if best else None)
    found = (next((each for each in reports if each.candidate == name), None) for name in wanted)
    return next((each for each in found if each is not None), reports[0] if reports else None)


def _may_go_on(report: Report | None, state: PlanState | None) -> bool:
    """Whether the page offers to go on after the last look; the command refuses what may not go on for other
    reasons."""
    if report is None or report.primary is None or state is None or state.running:
        return False
    return state.plan.rules >= CONTINUED_RULES and report.verdict == "hold" and report.primary.closed


async def _before_start(
    services: PageServices, planned: Plan | None, state: PlanState | None
) -> tuple[str, ...] | None:
    """Cautions from labels about the judge that decides, where the plan may be started. None if they are still being
    read."""
    if planned is None or (state is not None and state.running and state.plan.same_design(planned)):
        return ()
    kept = await _read(services, ("judge", planned.hash), lambda c: plan_judge_cautions(c, planned))
    return None if kept is None else kept.value


async def _ramp(
    services: PageServices, name: str, state: PlanState | None
) -> tuple[RampGateOutput | None, Sequence[RampEvent]]:
    """(the ramp as its gate describes it, its newest changes). None if it has none, or the stream server does not
    answer."""
    if state is None or state.plan.ramp is None:
        return None, []
    try:
        gate = await read_gate(services.admin, name)
        events = await services.admin.store.read(lambda connection: stored_ramp_events(connection, name))
    except AdminError:
        return None, []
    return gate, events[::-1][:EVENTS_SHOWN]


def _reports(connection: Reading, name: str, config: Config) -> list[Report]:
    """Reports of all candidates; empty: the store has no evidence."""
    try:
        return reports_of(connection, name, partial(prices_of, config))
    except ExperimentNotFound:
        return []


def _horizon(report: Report, state: PlanState | None) -> dict[str, Any]:
    """The charts' points as tables, and the progress to the last look."""
    most = state.plan.ends_at if state else None
    return {
        "trail_tables": {trail.metric: list(_trail_rows(trail)) for trail in report.trails},
        "horizon": None if most is None else {"pairs": min(report.pairs, most), "of": most},
    }


def _trail_rows(trail: IntervalTrail) -> Iterator[tuple[str, str, str, str]]:
    """Points (pairs, difference, low, high)."""
    for n, value, low, high in say.thinned(trail.points, TRAIL_ROWS):
        places = say.digits((high - low) / 2)
        difference, lowest, highest = (say.number(v, places, signed=True) for v in (value, low, high))
        yield say.count(n), difference, lowest, highest


async def new_page(request: Request) -> Response:
    """The form; a link to it may fill fields in by their names."""
    query = request.query_params
    filled = Form(visitor_of(request).actor, {name: query.getlist(name) for name in query})
    given = {name: value for name, value in _body(filled).items() if value not in ("", {})} if query else {}
    return await _form_page(request, given)


async def _form_page(request: Request, given: Mapping[str, Any], *, error: AdminError | None = None) -> Response:
    services = services_of(request)
    config = services.admin.config()
    metrics = [*config.scorers, *(m for m in BUILT_IN_METRICS if m not in config.scorers)]
    share = given.get("share", 0.1)
    return render(
        request,
        "experiment_new.html.jinja",
        status=200 if error is None else error.status,
        targets=targets_of(config),
        guards=[(name, f"the guard {name}") for name in config.guards],
        upstreams=[(name, name) for name in config.upstreams],
        known_models=sorted({ref.model for each in config.models.values() for ref in refs_of_model(config, each)}),
        metrics=[(name, name) for name in metrics],
        given={name: given.get(name, "") for name in (*NewExperiment.model_fields, "start")},
        fresh=not given,
        judged=await _of_judges(services, config, given.get("margin", "")),
        share=f"{100 * share:g}" if isinstance(share, float) else share,
        error=error,
        paste=error.text if isinstance(error, ReadOnly) else "",
    )


async def _of_judges(services: PageServices, config: Config, margin: object) -> tuple[str, ...]:
    """Cautions from labels about each judge that may be chosen as the primary, and about this margin of its scores.

    margin: as it was filled in; the form's own where it is not a number. () if it is still being read.
    """
    try:
        wanted = float(str(margin))
    except ValueError:
        wanted = math.nan
    wanted = wanted if 0 < wanted < math.inf else MARGIN
    names = tuple(config.scorers)
    kept = await _read(services, ("judges", names, wanted), lambda c: cautions_by_judge(c, names, wanted))
    return () if kept is None else kept.value


async def make(request: Request) -> Response:
    form = await form_actor(request, "owner", "make experiments")
    services = services_of(request)
    body, starts = _body(form), form.checked("start")
    try:
        new = await make_experiment(experiment_admin(services), form.actor, body)
        started = await start_experiment(experiment_admin(services), form.actor, new.name) if starts else None
    except AdminError as error:
        return await _form_page(request, {**body, "start": starts}, error=error)
    if started is None:
        return redirect(request, url_of(new.name), f"{new.name} is made; start it when you are ready")
    return redirect(request, url_of(new.name), " ".join([f"{new.name} is running.", *started.cautions]))


_TEXTS = (
    "name", "guard", "upstream", "candidate_model", "system", "temperature", "mode", "primary", "margin", "usd_per_day",
)  # fmt: skip


def _body(form: Form) -> dict[str, Any]:
    """The form as the body of NewExperiment. The control's target names its model, too."""
    model, _, control = form.get("control").partition(" ")
    rails = zip(form.all("guardrail"), form.all("guardrail_margin"), strict=False)
    found: dict[str, Any] = {name: form.get(name).strip() for name in _TEXTS}
    found |= {"model": model, "control": control, "guardrails": {m: margin for m, margin in rails if m and margin}}
    found |= {"ramp": True} if form.checked("ramp") else {}
    share = form.get("share").strip()
    try:
        return found | {"share": float(share) / 100}
    except ValueError:
        return found | {"share": share}  # whose mistake is reported like every other


async def start(request: Request) -> Response:
    form = await form_actor(request, "operator", "start experiments")
    name = form.get("name")
    if form.checked("more"):
        going = await continue_experiment(experiment_admin(services_of(request)), form.actor, name)
        return redirect(request, url_of(name), f"{name} goes on: {more_line(going.price)}")
    started = await start_experiment(experiment_admin(services_of(request)), form.actor, name)
    if started.was_running:
        return redirect(request, url_of(name), f"{name} was running already")
    return redirect(request, url_of(name), " ".join([f"{name} is running.", *started.cautions]))


async def stop(request: Request) -> Response:
    form = await form_actor(request, "operator", "stop experiments")
    name = form.get("name")
    before = await stop_experiment(experiment_admin(services_of(request)), form.actor, name)
    outcome = "is stopped; its evidence stays" if before.running else "had been stopped already"
    return redirect(request, url_of(name), f"{name} {outcome}")


async def command(request: Request) -> Response:
    """Runs a command on a ramp: pause, resume, rollback, promote or override, each with a reason."""
    form = await form_actor(request, "operator", "change a ramp")
    name, verb = form.get("name"), form.get("verb")
    ends_holdout, excepts = verb == "promote-full", verb == "promote-except"
    known = "promote" if ends_holdout or excepts else next((each for each in VERBS if each == verb), None)
    if known is None:
        raise InvalidBody(f"a ramp has no command {verb[:40]!r}")
    body: dict[str, Any] = {"reason": form.get("reason")}
    body |= {"full": ends_holdout or form.checked("full")} if ends_holdout or known == "override" else {}
    body |= {"without": form.all("without")} if excepts else {}
    changed = await change_ramp(services_of(request).admin, form.actor, name, known, body)
    done = "goes on" if known == "resume" else f"{known} is done; it is {described(changed['state'])} now"
    return redirect(request, url_of(name), f"{name}: {done}")


async def remove(request: Request) -> Response:
    form = await form_actor(request, "owner", "remove experiments")
    name = form.get("name")
    await remove_experiment(experiment_admin(services_of(request)), form.actor, name)
    return redirect(request, HOME, f"{name} is removed from the config; its evidence stays")


def experiment_admin(services: PageServices) -> ExperimentAdmin:
    """Raises InvalidBody where this console has no stream server."""
    if services.corridor is None:
        raise InvalidBody("this console has no stream server, so it cannot change experiments")
    return ExperimentAdmin(services.admin, services.corridor.state, services.config_path, services.read_config)


async def states_of(services: PageServices) -> tuple[dict[str, PlanState], str]:
    """States of all plans, and the reason why they are unknown ("" if they are known)."""
    if services.corridor is None:
        return {}, "this console has no stream server"
    try:
        return await services.corridor.state.plans(), ""
    except StreamDown as error:
        return {}, f"{error}; which experiments run is unknown"


def _made_names(services: PageServices) -> frozenset[str]:
    """The experiments of the file next to gateway.yaml."""
    try:
        return frozenset(read_made(services.config_path).sections())
    except ConfigError:
        return frozenset()


PAGE = Page(
    path=HOME,
    title="Experiments",
    routes=(
        PageRoute(HOME, list_page),
        PageRoute(f"{HOME}/new", new_page, role="owner"),
        PageRoute(f"{HOME}/new", make, methods=("POST",), role="owner"),
        PageRoute(f"{HOME}/start", start, methods=("POST",), role="operator"),
        PageRoute(f"{HOME}/stop", stop, methods=("POST",), role="operator"),
        PageRoute(f"{HOME}/ramp", command, methods=("POST",), role="operator"),
        PageRoute(f"{HOME}/remove", remove, methods=("POST",), role="owner"),
        PageRoute(f"{HOME}/of/{{name:path}}", one_page),
    ),
)
