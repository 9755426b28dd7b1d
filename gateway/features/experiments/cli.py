"""`gateway ab` and `gateway report`: start, stop and show experiments. Plans are in the stream server, which every
gateway polls.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import (
    AsJson,
    ConfigOptions,
    Deployment,
    StoreOptions,
    example,
    grouped,
    note,
    show,
)
from gateway.features.ramp.cli import gate_lines, ramp
from gateway.features.retirement.cli import drafts

if TYPE_CHECKING:
    from gateway.config.config import Config
    from gateway.config.experiments import RampConfig
    from gateway.core.plan import Plan, PlanState
    from gateway.features.experiments.start.more import ContinuedPlan
    from gateway.features.experiments.start.start_stop import PlanToStart
    from gateway.ramps.commands import RampView
    from gateway.reports.model import Report
    from gateway.stream import Corridor
    from gateway.verdict.price.forecast import PowerForecast, Terms

Name = Annotated[str, typer.Argument(help="Name of the experiment in gateway.yaml.")]
ab = typer.Typer(no_args_is_help=True, help="Start, stop and watch experiments.")
ab.add_typer(ramp)
ab.add_typer(drafts)
verbs = typer.Typer()
verbs.add_typer(ab, name="ab", epilog=example("gateway ab start swap"))


@ab.command(epilog=example("gateway ab start swap"))
@grouped
def start(
    name: Name,
    options: ConfigOptions,
    more: Annotated[
        bool, typer.Option("--more", help="Go on with a plan that closed without a verdict, after its last look.")
    ] = False,
) -> None:
    """Freeze an experiment's plan and start it on every gateway of this stream server.

    An experiment that has changed since it was started becomes a new plan, whose evidence starts from zero.
    """
    of = options.load()
    plan = _enabled(of, name)
    if more:
        _start_more(of, plan)
        return
    wanted = _prepared(of, plan)
    plan, closed = wanted.plan, wanted.closed
    for each in (*wanted.cautions, *_judge_cautions(of, name)):
        note(f"caution: {each}")
    known, running = of.on_stream(lambda corridor: _started(corridor, wanted, of.config.experiments))
    if known is not None and known.running and known.plan.hash == running.hash:
        show(f"{name} is running already, with plan {running.hash}")
        return
    longer = known is not None and known.plan.hash in closed
    replaced = known is not None and known.plan.hash != running.hash
    before = f"; the previous plan was {known.plan.hash}" if known is not None and replaced else ""
    show(f"{name} is running with plan {running.hash}{before}")
    if longer:
        note(
            "the previous plan closed undecided; the variance of its pairs requires more, and this one starts from zero"
        )
    elif known is not None and known.plan.same_design(running) and not known.plan.same_segments(running):
        note("its segments are not those of the previous plan, so its evidence starts from zero")
    settings = of.config.experiments[name].ramp
    for line in (*_start_notes(running), *(_promotions(settings, running) if settings else ())):
        note(line)
    note(f"see: gateway ab status {name}; gateway report {name}")


def _enabled(of: Deployment, name: str) -> Plan:
    """The plan of an experiment of the config, as it says now."""
    from gateway.config.derive import plans_of

    plan = plans_of(of.config).get(name)
    if plan is None:
        there = f'no experiment "{name}" in {of.path}; there are: {_named(of.config)}'
        raise typer.BadParameter(there, param_hint="NAME")
    if not of.config.experiments[name].enabled:
        raise typer.BadParameter(f"experiments.{name}.enabled is false in {of.path}", param_hint="NAME")
    return plan


def _start_more(of: Deployment, plan: Plan) -> None:
    from gateway.features.experiments.start.more import start_more
    from gateway.verdict.report import price

    wanted = _continuation(of, plan)
    of.on_stream(lambda corridor: start_more(corridor.state, wanted, of.config.experiments))
    show(f"{plan.name} goes on with plan {wanted.plan.hash}")
    note(price.more_line(wanted.price))
    note("only the early looks' fifth of the error decides from here on: the last look does not come twice")
    note(f"see: gateway ab status {plan.name}; gateway report {plan.name}")


def _continuation(of: Deployment, plan: Plan) -> ContinuedPlan:
    """The closed plan that may go on. Raises CannotRun with the reason why none may."""
    from gateway.core.errors import CannotRun
    from gateway.features.experiments.start.more import continuation
    from gateway.store.engine import StoreUnavailable
    from gateway.store.query import reading

    try:
        with reading(of.store) as connection:
            return continuation(connection, plan)
    except StoreUnavailable as error:
        raise CannotRun(f"{plan.name}: no plan is stored yet, so none can go on ({error})") from None


async def _started(corridor: Corridor, wanted: PlanToStart, others: Iterable[str]) -> tuple[PlanState | None, Plan]:
    """Starts a plan. Returns the state before, and the plan that is in force now."""
    from gateway.features.experiments.start.start_stop import start as start_plan

    known = await start_plan(corridor.state, wanted, others)
    return known, (await corridor.state.plans())[wanted.plan.name].plan


def _start_notes(plan: Plan) -> Iterator[str]:
    """Lists what a plan in force will do."""
    from gateway.verdict.decision import REJECT_WAITS

    if plan.method == "anytime" and plan.ends_at is not None:
        about = "about " if plan.auto_horizon else ""
        yield f"it ends at {about}{plan.ends_at} pairs, if no candidate is shown to be the best before"
    elif plan.max_pairs is not None:
        about = "about " if plan.auto_horizon and plan.rules >= 2 else ""
        closes = f"it closes at {about}{plan.max_pairs} pairs with a value of {plan.primary}"
        yield f"{closes}; a verdict may come at any time before"
    if plan.rules >= 2:
        hours = f"{plan.min_hours:g} hours of traffic; {REJECT_WAITS}"
        yield f"`ship` waits for {hours}" if plan.min_hours else "`ship` does not wait for hours of traffic"
    if plan.finds_best:
        yield "a candidate that cannot be the best gets no more requests"
    yield from _segment_notes(plan)
    if plan.after_verdict == "stop":
        ends = "one candidate is the best, or none is left" if plan.finds_best else "every candidate has a verdict"
        saved = "calls are copied" if plan.guarded else "shadow requests are paid for"
        yield f"it stops once {ends}, so that no more {saved}"
    if plan.mode == "split":
        yield f"it continues after its verdict, since its calls cost nothing extra: gateway ab stop {plan.name} ends it"


def _segment_notes(plan: Plan) -> Iterator[str]:
    """Lists the segments that a plan asks for, and those that are shadowed more often."""
    from gateway.core.segments import segment_name

    design = plan.segments
    if design is not None and design.by:
        named = ", ".join(segment_name(*each) for each in design.segments)
        yield f"`ship` also needs these segments, each not worse by {design.margin:g}: {named}"
    if design is not None and design.more:
        rates = ", ".join(
            f"{segment_name(prop, value)} {min(1.0, plan.shadow * factor):.2g}" for prop, value, factor in design.more
        )
        yield f"small segments are shadowed more often than the {plan.shadow:g} of all calls: {rates}"


@ab.command(epilog=example("gateway ab stop swap"))
@grouped
def stop(name: Name, options: ConfigOptions) -> None:
    """Stop an experiment on every gateway, within a second; shadow requests in flight are cancelled.

    Its evidence stays in the store. It stays stopped, also after restarts, until `gateway ab start`.
    """
    from gateway.features.experiments.start.start_stop import stop as stop_plan

    known = options.load().on_stream(lambda corridor: stop_plan(corridor.state, name))
    if known is None:
        raise typer.BadParameter(f'no experiment "{name}" has been started here', param_hint="NAME")
    show(f"{name} had been stopped already" if not known.running else f"{name} is stopped (plan {known.plan.hash})")


@ab.command("list", epilog=example("gateway ab list"))
@grouped
def list_(options: ConfigOptions, as_json: AsJson = False) -> None:
    """List the experiments of the config and of the stream server."""
    of = options.load()
    rows = list(_listed(of.config, of.on_stream(lambda corridor: corridor.state.plans())))
    show(_json(rows) if as_json else _table(rows) if rows else f"no experiment in {of.path}")


def _promotions(settings: RampConfig, plan: Plan) -> Iterator[str]:
    """The steps of a ramp. In `mode: advise` a promotion begins each step, and one more ends the last step."""
    steps = len(plan.ramp.steps) if plan.ramp else 0
    if settings.mode == "auto":
        yield f"its ramp takes its {steps} steps by itself, each once its evidence is complete"
    elif steps:
        yield (
            f"its ramp has {steps} steps; with `mode: advise` each of them begins with `gateway ab promote`, and the "
            f"last one ends with it: run it {steps + 1} times"
        )


@ab.command(epilog=example("gateway ab status swap"))
@grouped
def status(
    options: ConfigOptions,
    name: Annotated[str | None, typer.Argument(help="Name of the experiment (default: all of them).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show an experiment's state, its ramp, the results and today's usage of its shadow requests, and the verdict.

    Without a name it shows every experiment of the config and of the stream server.
    """
    of = options.load()
    if name is not None:
        found, reports = _status_of(of, name)
        show(_json(found) if as_json else "\n".join([*_lines(found), *_next(reports)]))
        return
    states = of.on_stream(lambda corridor: corridor.state.plans())
    every = [_status_of(of, each) for each in sorted({*of.config.experiments, *states})]
    if as_json:
        show(_json([found for found, _ in every]))
    else:
        blocks = ["\n".join([*_lines(found), *_next(reports)]) for found, reports in every]
        show("\n\n".join(blocks) or f"no experiment in {of.path}")


def _status_of(of: Deployment, name: str) -> tuple[dict[str, Any], list[Report]]:
    """The state of one experiment as `status` shows it, with the reports of its candidates."""
    from gateway.config.derive import paces_of
    from gateway.core.plan import UNITS_FIRST_RULES
    from gateway.core.ramp import RampPace
    from gateway.features.ramp.gate import gate_of
    from gateway.verdict.harm import harm_sentence

    config = of.config
    state, results, spent = of.on_stream(lambda corridor: _standing(corridor, name))
    if state is None and name not in config.experiments:
        raise typer.BadParameter(f'no experiment "{name}"; there are: {_named(config)}', param_hint="NAME")
    listed = next(_listed(config, {name: state} if state else {}, only=name))
    found = {**listed, "shadows": results, "used_today": spent}
    reports = [report for report in _reports(of, name) if state is None or report.plan == state.plan.hash]
    ramped = of.on_stream(lambda corridor: _ramp(corridor, name))
    found["ramp"] = gate_of(ramped, paces_of(config).get(name, RampPace()), time.time()) if ramped else None
    found["verdict"] = reports[0].sentence if reports else None
    found["candidates"] = [_candidate(each) for each in reports]
    if state is None or state.plan.rules >= UNITS_FIRST_RULES:  # plans of older rules keep the members that they had
        for shown, report in zip(found["candidates"], reports, strict=True):
            shown["cautions"] = report.cautions
    if reports and reports[0].best is not None:
        found["verdict"] = reports[0].best.sentence
        found["best"] = reports[0].best
    if state is not None and state.dropped:
        found["dropped"] = state.dropped
    if state is not None and state.harm is not None and state.harmed and state.running:
        found["harm"] = harm_sentence(state.plan, state.harm)
    found["ends"] = _ends(state, reports)
    return found, reports


@dataclass(frozen=True, slots=True)
class _Assumed:
    margin: Annotated[float | None, typer.Option(min=0, help="Margin of the primary metric (default: the plan's).")] = (
        None
    )
    alpha: Annotated[float | None, typer.Option(min=1e-6, max=0.5, help="Error probability (default: the plan's).")] = (
        None
    )
    per_day: Annotated[
        float | None,
        typer.Option(min=0, help="Eligible requests (or runs) per day (default: as measured)."),
    ] = None


@ab.command(epilog=example("gateway ab power swap --margin 0.05"))
@grouped
def power(
    name: Name,
    assumed: _Assumed,
    options: ConfigOptions,
    chart: Annotated[bool, typer.Option("--chart", help="Draw a bar for each condition.")] = False,
    more: Annotated[
        bool, typer.Option("--more", help="Show the price of `ab start --more`, after the last look.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Estimate the price of a verdict: pairs, requests, paid calls and days.

    It includes the primary, each guardrail, the gates and every candidate. Before 20 pairs exist, variances are
    assumed; afterwards they are measured on the candidate's own pairs.
    """
    from gateway.verdict.price.forecast import Terms
    from gateway.verdict.report import price

    of = options.load()
    if more:
        going = _continuation(of, _enabled(of, name)).price
        show(_json(going) if as_json else f"{name}: {price.more_line(going)}")
        return
    shares = {scorer: section.share for scorer, section in of.config.scorers.items()}
    found = _outlook(of, name, Terms(assumed.margin, assumed.alpha, assumed.per_day, shares))
    settings = of.config.experiments.get(name)
    by_run = settings is not None and settings.mode == "split" and settings.unit == "run"
    show(_json(price.to_dict(found)) if as_json else "\n".join(price.lines(name, found, chart=chart, by_run=by_run)))


def _judge_cautions(of: Deployment, name: str) -> list[str]:
    """Cautions if the experiment's primary is a judge.

    Raises CannotRun where the primary cannot find the best of several candidates.
    """
    from gateway.config.derive import plans_of
    from gateway.core.errors import CannotRun, ConfigError
    from gateway.features.experiments.judges import judge_cautions
    from gateway.features.experiments.start.start_stop import best_refusal
    from gateway.scoring.asker import ExternalServices
    from gateway.scoring.http_client import HttpConnections
    from gateway.scoring.registry import build_all

    config = of.config
    primary = config.experiments[name].primary
    if primary not in config.scorers:
        return []
    only = {primary: config.scorers[primary]}
    try:
        built = build_all(only, ExternalServices(HttpConnections(), directory=of.path.parent))
    except ConfigError:
        return []  # `gateway check` reports it, and no consumer starts with it
    if refusal := best_refusal(plans_of(config)[name], built):
        raise CannotRun(refusal)
    return judge_cautions(config, built, of.store, name)


def _prepared(of: Deployment, plan: Plan) -> PlanToStart:
    """The plan as it may start, with the store's data on earlier ones."""
    from gateway.config.derive import feedback_without_range
    from gateway.features.experiments.start.segments import segment_refusal
    from gateway.features.experiments.start.start_stop import PlanToStart, prepared, start_cautions
    from gateway.store.engine import StoreUnavailable
    from gateway.store.query import reading

    refusal = feedback_without_range(of.config, plan)
    try:
        with reading(of.store) as connection:
            wanted = prepared(connection, plan)
            return replace(wanted, refusal=wanted.refusal or refusal)
    except StoreUnavailable:
        refusal = refusal or segment_refusal(None, plan, time.time())
        return PlanToStart(plan, cautions=tuple(start_cautions(None, plan)), refusal=refusal)


def _outlook(of: Deployment, name: str, terms: Terms) -> PowerForecast:
    from gateway.config.derive import plans_of
    from gateway.core.plan import StoredPlan, current_plan
    from gateway.features.experiments.start.population import population_cautions
    from gateway.features.experiments.start.price import price_evidence
    from gateway.features.experiments.start.start_stop import prepared
    from gateway.store.engine import StoreUnavailable
    from gateway.store.plans import stored_plans
    from gateway.store.query import reading
    from gateway.verdict.price.forecast import forecast

    planned = plans_of(of.config).get(name)
    try:
        with reading(of.store) as connection:
            kept = current_plan(stored_plans(connection, name))
            changed = kept is not None and planned is not None and not kept.plan.follows_from(planned)
            if kept is not None and (kept.state == "running" or not changed):
                if changed:
                    note(f"the config has changed; this is the price of the running plan {kept.hash}")
                return forecast(kept, terms, price_evidence(connection, kept))
            if planned is not None:
                start = prepared(connection, planned)
                if start.refusal is not None:
                    note(start.refusal)
                for caution in population_cautions(connection, planned, time.time()):
                    note(caution)
                plan = start.plan
                wanted = StoredPlan(plan, plan.hash, "stopped", 0.0)
                return forecast(wanted, terms, price_evidence(connection, wanted))
    except StoreUnavailable:
        pass  # nothing has been recorded here: the estimate rests on the plan alone
    if planned is None:
        raise typer.BadParameter(f'no experiment "{name}"; there are: {_named(of.config)}', param_hint="NAME")
    return forecast(StoredPlan(planned, planned.hash, "stopped", 0.0), terms)


def _reports(of: Deployment, name: str) -> list[Report]:
    """The report of each candidate; none: the store has no evidence yet."""
    from gateway.features.experiments.report.build import ExperimentNotFound, read_all
    from gateway.store.engine import StoreUnavailable
    from gateway.store.reader_config import StoreLocation

    try:
        return read_all(StoreLocation(of.store, config=of.path), name)
    except (ExperimentNotFound, StoreUnavailable):
        return []


async def _ramp(corridor: Corridor, name: str) -> RampView | None:
    from gateway.ramps.commands import NoRamp, read_ramp

    try:
        return await read_ramp(corridor, name)
    except NoRamp:
        return None


async def _standing(corridor: Corridor, name: str) -> tuple[PlanState | None, dict[str, float], dict[str, float]]:
    """(state, results of its plan's shadow requests, their usage today)."""
    from gateway.stream.shared_state import SHADOW_COUNTS, SPENDING_DAY_S

    state = (await corridor.state.plans()).get(name)
    results = await corridor.state.sums(SHADOW_COUNTS)
    spent = await corridor.state.sums(f"spent:{int(time.time() // SPENDING_DAY_S)}")
    ours = f"{state.plan.hash}:" if state else "\0"
    return (
        state,
        {result.removeprefix(ours): n for result, n in sorted(results.items()) if result.startswith(ours)},
        {what.removeprefix(f"{name}:"): n for what, n in spent.items() if what.startswith(f"{name}:")},
    )


def _listed(config: Config, states: Mapping[str, PlanState], only: str | None = None) -> Iterator[dict[str, Any]]:
    from gateway.config.derive import plans_of
    from gateway.reports.number_format import when

    planned = plans_of(config)
    for name in sorted({*planned, *states} if only is None else {only}):
        plan, state = planned.get(name), states.get(name)
        off = name in config.experiments and not config.experiments[name].enabled
        status = "disabled in the config" if off else state.shown if state else "not started"
        shown = state.plan if state else plan
        changed = plan is not None and state is not None and not state.plan.follows_from(plan)
        yield {
            "experiment": name,
            "state": status,
            "since": when(state.since) if state else "",
            "plan": shown.hash if shown else "",
            "mode": shown.mode if shown else "",
            **({"targets": _targets(shown)} if only is not None and shown else {}),
            "config": "not in it" if plan is None else f"changed: {plan.hash}" if changed else "the same",
        }


def _targets(plan: Plan) -> dict[str, str]:
    """Target of each arm; the repeat has the control's."""
    return {"control": str(plan.control), **{arm: str(target) for arm, target in plan.candidates}}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from gateway.verdict.report.presentation import ineligible_notes, not_offered_notes

    yield f"{found['experiment']}: {found['state']}" + (f" since {found['since']}" if found["since"] else "")
    yield f"  plan      {found['plan']} ({found['mode']}); config: {found['config']}"
    for arm, target in found.get("targets", {}).items():
        dropped = " (dropped: it gets no more requests)" if arm in found.get("dropped", ()) else ""
        yield f"  {arm:<10}{target}{dropped}"
    if "harm" in found:
        yield f"  harm      {found['harm']}"
    results = ", ".join(f"{result} {n:.0f}" for result, n in found["shadows"].items())
    yield f"  shadows   {results or 'none yet'}"
    reasons = [result.removeprefix("not_offered_") for result in found["shadows"]]
    yield from (f"            not_offered_{line}" for line in not_offered_notes(reasons))
    yield from (f"            {line}" for line in ineligible_notes(found["shadows"]))
    used = found["used_today"]
    yield f"  today     {used.get('tokens', 0.0):.0f} tokens, {used.get('usd', 0.0):.4f} USD"
    if found["ramp"]:
        yield from gate_lines(found["ramp"])
    yield f"  ends      {found['ends']}"
    yield f"  verdict   {found['verdict'] or 'no evidence in the store yet'}"


def _ends(state: PlanState | None, reports: Sequence[Report]) -> str:
    """Says when the experiment stops paying for shadow requests."""
    from gateway.verdict.ending import all_decided

    if state is None:
        return "not started"
    plan = state.plan
    if not state.running:
        decided = bool(reports) and all_decided(plan, [each.verdict for each in reports])
        how = "has its verdict" if decided else "is stopped"
        return f"it {how}: no more {'calls are copied' if plan.guarded else 'shadow requests are paid for'}"
    verdict = "with the best candidate, or when none is left" if plan.finds_best else "with its verdict"
    ways = [verdict] if plan.after_verdict == "stop" else []
    about = "about " if plan.method == "anytime" and plan.auto_horizon else ""
    ways += [f"at {about}{plan.ends_at} pairs"] if plan.ends_at is not None else []
    return " or ".join([*ways, "when it is stopped"])


def _candidate(report: Report) -> dict[str, Any]:
    """One candidate as JSON: its verdict, or the conditions that are missing for one."""
    from gateway.verdict.report.as_json import declared, progress

    return {
        "candidate": report.candidate,
        "verdict": report.verdict,
        "sentence": report.sentence,
        "pairs": report.pairs,
        "family": report.family,
        "segments": [each for each in report.segments if each.found != "unclear"],
        "saved": report.primary.saved if report.primary else None,
        "as_people_judge": {
            c.metric: {"difference": c.difference, "corrected": c.corrected, "basis": c.corrected_basis}
            for c in report.metrics
            if c.corrected
        },
        "responses": {c.metric: c.responses for c in report.metrics if c.responses},
        "progress": progress(report.progress),
        **({} if report.declared is None else {"declared": declared(report.declared)}),
    }


def _next(reports: Sequence[Report]) -> Iterator[str]:
    from gateway.verdict.report.presentation import (
        best_lines,
        declared_lines,
        except_lines,
        headline,
        next_lines,
        people_line,
        responses_line,
        saving,
        segment_lines,
        sharing,
    )

    if reports and reports[0].best is not None:
        leading = next((each for each in reports if each.candidate == reports[0].best.leader), reports[0])
        ranked = [line for line, _ in best_lines(leading.best)]
        yield from (f"  {line}" for line in [*ranked, *(next_lines(leading) if leading.verdict == "hold" else [])])
        yield from (f"  {line}" for line in [*leading.cautions, *segment_lines(leading)])
        return
    for report in reports:
        left = report.progress.sentence if report.verdict == "hold" and report.progress is not None else ""
        more = [*([left] if left else []), *next_lines(report)] if report.verdict == "hold" else []
        lines = [headline(report), *more, *report.cautions]
        rated = [responses_line(c) for c in (report.primary, *report.guardrails)]
        people = [people_line(c) for c in (report.primary, *report.guardrails)]
        lines += [text for text in (*people, *rated, saving(report.primary), sharing(report.family)) if text]
        lines += [*declared_lines(report.declared), *except_lines(report), *segment_lines(report)]
        yield from (f"  {'' if i else report.candidate:<10.10}{line}" for i, line in enumerate(lines))


def _named(config: Config) -> str:
    return ", ".join(sorted(config.experiments)) or "none"


def _json(value: Any) -> str:
    from gateway.core.sanitize import to_json

    return to_json(value)


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from gateway.core.sanitize import plain

    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in rows[0]:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*(Text(plain(str(value))) for value in row.values()))
    return shown


@verbs.command(epilog=example("gateway report swap --html swap.html"))
@grouped
def report(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment in gateway.yaml.")],
    store: StoreOptions,
    candidate: Annotated[
        str | None, typer.Option(help="Arm of the candidate, if there are several (default: the first).")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show all the evidence.")] = False,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write the report to this HTML file.")] = None,
    png: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also draw its first screen, by Chromium or Chrome.")
    ] = None,
) -> None:
    """Report whether a candidate may replace the control.

    The verdict is ship, reject or hold, with its evidence. Every interval is valid at all times, so you may look as
    often as you like.
    """
    import time

    from gateway.core.complete_file import write_private
    from gateway.features.decisions.report import report_sections
    from gateway.features.experiments.report import build as made
    from gateway.features.groups.report import experiment_sections
    from gateway.reports.png import write_png
    from gateway.verdict.report.as_json import to_json
    from gateway.verdict.report.html import to_html
    from gateway.verdict.report.terminal import to_terminal

    where = store.location()
    found = made.read(where, experiment, candidate)
    more = []
    if full or html is not None:
        more = [*experiment_sections(where.store, found), *report_sections(where.store, time.time())]
    if html is not None:
        write_private(html, to_html(found, made.read_all(where, experiment), more))
        note(f"wrote {html}")
    if png is not None:
        write_png(to_html(found, made.read_all(where, experiment)), png)
        note(f"wrote {png}")
    show(to_json(found) if as_json else to_terminal(found, full=full, more=more))
