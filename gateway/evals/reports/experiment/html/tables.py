"""The tables of the page: metrics against their margins, latency, arms and their cost, strata, what is withheld."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.evals.experiments import wording as say
from gateway.evals.experiments.report import Arm, ArmLatency, Comparison, Estimate, Report, State, StratumDifference
from gateway.evals.reports.experiment.html.bars import NARROW, WIDE, amount_bar, interval_bar, reach
from gateway.evals.reports.experiment.html.curves import LatencyCurves
from gateway.evals.reports.experiment.html.markup import Child, Markup, tag
from gateway.evals.reports.experiment.html.parts import Column, Row, section, table, toned
from gateway.evals.reports.experiment.views import Part, comparisons, drawn, parts_played

_ROLES = (("primary", "Primary: decides"), ("guardrail", "Guardrails: each must hold"), ("other", "Not tested"))
_MEASURES = {"total_s": "Whole answers", "first_token_s": "First token"}


def metrics(report: Report) -> Markup | None:
    found = comparisons(report)
    columns = (
        Column("Metric", "text"), Column("Control"), Column("Candidate"), Column("Difference"),
        Column("against its margin", "drawing"), Column("Noise floor", show=any(c.noise for c in found)),
        Column("Pairs"), Column("As people judge", show=any(c.corrected for c in found)), Column("Found", "text"),
    )  # fmt: skip
    groups = [(title, [_metric(c) for c in found if c.role == role]) for role, title in _ROLES]
    once = any(c.method.startswith("fixed n") for c in found)
    holds = "which is for one look, at the end" if once else "which holds at every look"
    lead = (
        f"Differences are turned so that + is better for the candidate; each stands over its interval, {holds}. "
        "Noise floor: the control against itself, asked again."
    )
    shown = table("Each metric in both arms", columns, groups), tag("p", _methods(found), class_="note")
    return section("Metrics", lead, shown) if found else None


def _methods(found: list[Comparison]) -> str:
    """Which interval is of which kind."""
    methods = list(dict.fromkeys(c.method for c in found if c.method))
    named = (f"{method} ({', '.join(c.metric for c in found if c.method == method)})" for method in methods)
    return f"Intervals: {'; '.join(named)}." if methods else ""


def _metric(c: Comparison) -> Row:
    places, of_arms = say.digits_of(c.difference, margin=c.margin), say.digits_of(c.a, c.b, margin=c.margin)
    drawing = interval_bar(c.difference, c.margin, reach([c.difference], c.margin), say.mood(c), NARROW)
    effective = None if c.effective_n == c.pairs else tag("small", f"{say.count(c.effective_n)} effective")
    return (c.metric, tag("small", c.unit) if c.unit else None), (
        _over(c.a, of_arms), _over(c.b, of_arms), _over(c.difference, places, signed=True), drawing,
        _over(c.noise, places, signed=True), (say.count(c.pairs), effective),
        _over(c.corrected, places, signed=True), toned(say.mood(c), say.finding(c)),
    )  # fmt: skip


def _over(e: Estimate | None, places: int, *, signed: bool = False) -> Child:
    """The value over its interval."""
    if e is None:
        return None
    bounds = None if e.low is None and e.high is None else tag("small", say.interval(e, places, signed=signed))
    return say.number(e.value, places, signed=signed), bounds


def latency(report: Report) -> Markup | None:
    look = parts_played(report)
    parts = [_curves(measure, [each for each in report.latency if each.measure == measure], look)
             for measure in _MEASURES]  # fmt: skip
    apart = "" if all(each.comparable for each in report.latency) else (
        " Dashed: asked by another path than the candidate, and not to be compared with it."
    )  # fmt: skip
    lead = f"For each arm, the share of answers that had come by then. Dots: half of them, and 95 %.{apart}"
    return section("Latency", lead, parts) if any(parts) else None


def _curves(measure: str, arms: list[ArmLatency], look: Mapping[str, Part]) -> Child:
    if not arms:
        return None
    title = _MEASURES[measure]
    columns = (
        Column("Arm", "text"), Column("Answers"), Column("Half by, s"), Column("95 % by, s"), Column("Path", "text"),
    )  # fmt: skip
    rows = [_latency(each, look[each.arm]) for each in arms]
    figure = LatencyCurves(f"latency-{measure}", title, arms, look).figure()
    return tag("h3", title), figure, table(f"{title}: latency by arm", columns, [(None, rows)])


def _latency(each: ArmLatency, look: Part) -> Row:
    places = say.digits_of(each.p50, each.p95)
    key = tag("line", x1=0, y1=5, x2=28, y2=5, class_=f"key {look}{'' if each.comparable else ' apart'}")
    name = tag("svg", key, class_="key", viewBox="0 0 28 10", aria_hidden="true"), each.arm
    path = "the candidate's" if each.comparable else "another"
    return name, (say.count(each.n), _over(each.p50, places), _over(each.p95, places), path)


def arms(report: Report) -> Markup | None:
    costs = [each.cost_per_1k for each in report.arms if each.cost_per_1k and each.cost_per_1k.value is not None]
    most = max((v for e in costs for v in (e.value, e.high) if v is not None), default=0.0)
    columns = (
        Column("Arm", "text"), Column("Asked"), Column("Failed"), Column("Served to clients"), Column("Tokens in"),
        Column("Tokens out"), Column("USD per 1k", show=bool(costs)), Column("cost", "drawing", bool(costs)),
    )  # fmt: skip
    rows = [_arm(each, most, parts_played(report)[each.arm]) for each in report.arms]
    lead = "Tokens are means of a request and of an answer."
    return section("Arms, and what they cost", lead, table("The arms", columns, [(None, rows)])) if rows else None


def _arm(each: Arm, most: float, look: Part) -> Row:
    failed = tag("small", say.share(each.failed / each.asked)) if each.asked else None
    cost = each.cost_per_1k
    return (each.arm, tag("small", each.target)), (
        say.count(each.asked), (say.count(each.failed), failed), say.count(each.served),
        say.number(each.input_tokens, 0), say.number(each.output_tokens, 0), _cost(cost),
        amount_bar(cost, most, look) if cost else None,
    )  # fmt: skip


def _cost(e: Estimate | None) -> Child:
    if e is None:
        return None
    bounds = None if e.low is None and e.high is None else f"{say.dollars(e.low)} … {say.dollars(e.high)}"
    return say.dollars(e.value), tag("small", bounds) if bounds else None


def likeness(report: Report) -> Markup | None:
    """The test "is the candidate like the control?"."""
    columns = (Column("Distance", "text"), Column("Pairs"), Column("Farther by"), Column("p"))
    rows: list[Row] = [
        (each.metric, (say.count(each.pairs), say.number(each.farther, 3, signed=True), say.number(each.p, 4)))
        for each in report.likeness
    ]
    lead = (
        "How much farther the served answer is from the candidate's than from the control's own next one; below 0 it "
        "is nearer, as with a lower temperature. A small p says that the candidate is not like the control; a large "
        "one proves nothing. It decides nothing."
    )
    return (
        section("Like the control?", lead, table("Distances to the served answer", columns, [(None, rows)]))
        if rows
        else None
    )


def strengths(report: Report) -> Markup | None:
    """Of three or more arms."""
    columns = (Column("Arm", "text"), Column("Log odds against the control"), Column("Standard error"))
    rows: list[Row] = [
        (each.arm, (say.number(each.log_odds, 2, signed=True), say.number(each.se, 2))) for each in report.strengths
    ]
    first = say.number(report.first_place, 2, signed=True)
    lead = f"By pairwise verdicts (Bradley–Terry). Being shown first is worth {first}."
    return section("Several candidates", lead, table("Strength by arm", columns, [(None, rows)])) if rows else None


def strata(report: Report) -> Markup | None:
    margin = report.primary.margin if report.primary else None
    differences = [each.difference for each in report.strata]
    to, places = reach(differences, margin), say.digits_of(*differences, margin=margin)
    columns = (Column("Part", "text"), Column("Pairs"), Column("Difference"), Column("against the margin", "forest"))
    rows = [_stratum(each, margin, to, places) for each in report.strata]
    on = say.titled(report.primary) if report.primary else "the primary metric"
    lead = f"The difference on {on} in parts of the traffic, on one scale. Of many parts some lie far off by chance."
    return section("Where in the traffic", lead, table("By stratum", columns, [(None, rows)])) if rows else None


def _stratum(each: StratumDifference, margin: float | None, to: float, places: int) -> Row:
    e, least = each.difference, -(margin or 0)
    mood: State = 1 if e.low is not None and e.low > least else -1 if e.high is not None and e.high < least else 0
    return each.name, (say.count(each.pairs), _over(e, places, signed=True), interval_bar(e, margin, to, mood, WIDE))


def withheld(report: Report) -> Markup | None:
    total = drawn(report)
    rows: list[Row] = [(reason, (say.count(n), say.share(n / total))) for reason, n in report.withheld if total]
    columns = (Column("Reason", "text"), Column("Pairs"), Column("Of all"))
    lead = f"Drawn, and without a comparison: {say.count(total - report.pairs)} of {say.counted(total, 'pair')}."
    shown = tag("div", table("Withheld pairs", columns, [(None, rows)]), class_="narrow-table")
    return section("Withheld", lead, shown) if rows else None
