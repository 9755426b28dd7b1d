"""A report as an HTML page: plain data for templates/experiment.html.jinja."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.features.experiments.report.likelihood import likelihood_page
from gateway.features.experiments.report.presentation import (
    SEGMENTS,
    SIGNS,
    STATES,
    ArmColor,
    arm_colors,
    arms_compared,
    badge,
    comparisons,
    finding,
    finding_state,
    headline,
    latency_compared,
    override_lines,
    pairs_drawn,
    people_line,
    people_look,
    ramp_line,
    responses_line,
    saving,
    share_interval,
    step_line,
    titled,
    withheld_notes,
)
from gateway.reports import number_format as say
from gateway.reports.charts import (
    FOREST_WIDTH,
    Chart,
    IntervalScale,
    LatencyCurves,
    Trail,
    amount_bar,
    extent,
    interval_bar,
    latency_chart,
    line_key,
    price_bar,
    share_bar,
    trail_chart,
)
from gateway.reports.html import Cell, Column, Row, Table, render, table
from gateway.reports.model import (
    Arm,
    ArmLatency,
    Comparison,
    Estimate,
    ExamplePair,
    GateResult,
    OpenCondition,
    RampChangeShown,
    Report,
    State,
    StratumDifference,
)
from gateway.reports.text_diff import Segment, omission, side_by_side

QUESTION_CHARACTERS = 1200
_TONES: dict[State, str] = {1: "good", 0: "open", -1: "bad"}
_ROLES = (("primary", "Primary: decides"), ("guardrail", "Guardrails: each must hold"), ("other", "Not tested"))
_LESS = {"higher": "", "lower": "less is better"}
_MEASURES = {"total_s": "Whole answers", "first_token_s": "First token"}


def to_html(report: Report, candidates: Sequence[Report] = ()) -> str:
    """candidates: the reports of all candidates of the experiment, this one included, for a table side by side."""
    return render("experiment.html.jinja", **page_values(report, candidates))


def page_values(report: Report, candidates: Sequence[Report] = ()) -> dict[str, Any]:
    """The values of experiment.html.jinja, which the console's page has, too."""
    return {
        "title": f"{report.experiment}: {badge(report)[0].partition(' ')[2].lower()}",
        "report": report,
        **_header(report),
        "side": _side_by_side(candidates),
        "course": list(_course(report)),
        "ramp": _ramp(report),
        "gates": [_gate(each) for each in report.gates],
        "metrics": _metrics(report),
        "wins": _wins(report),
        "likeness": _likeness(report),
        "strengths": _strengths(report),
        "likelihood": likelihood_page(report),
        "strata": _strata(report),
        "segments": _segments(report),
        "latency": _latency(report),
        "arms": _arms(report),
        "examples": _groups(report.examples),
        "regressions": ", ".join(f"{group} {n}" for group, n in report.regressions),
        "withheld": _withheld(report),
        "created": say.when(report.created),
        "versions": ", ".join(f"{name} {version}" for name, version in report.versions),
    }


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the large numbers at the top."""

    name: str
    figure: str
    details: str


@dataclass(frozen=True, slots=True)
class CourseChart:
    """The course of one metric's difference."""

    chart: Chart
    title: str
    finding: str
    small: bool
    """The primary metric's chart is large, the others are small."""


def _header(report: Report) -> dict[str, Any]:
    shown, state = badge(report)
    period = f", from {say.when(report.first)} to {say.when(report.last)}" if report.first is not None else ""
    left = _left_tile(report)
    tiles = (_difference_tile(report), left, _pairs_tile(report), _cost_tile(report), _latency_tile(report))
    return {
        "tone": _TONES[state],
        "badge": shown,
        "headline": headline(report).replace(" … ", "\u00a0…\u00a0"),
        "details": report.sentence.replace(" … ", "\u00a0…\u00a0") if headline(report) != report.sentence else "",
        "reasons": [reason for reason in report.reasons if not _repeats(reason, headline(report))],
        "cautions": report.cautions,
        "next": _next(report),
        "span": f"{say.counted(report.pairs, 'pair')}{period}",
        "tiles": [tile for tile in tiles if tile],
    }


def _ramp(report: Report) -> dict[str, Any] | None:
    """The share over time; None: there is no ramp."""
    if report.ramp is None:
        return None
    columns = (Column("When", "text"), Column("What", "text"), Column("Share", "drawing"), Column("By", "text"),
               Column("Why", "text"))  # fmt: skip
    rows = [_ramp_row(each) for each in report.ramp.changes]
    return {
        "lead": ramp_line(report),
        "overrides": override_lines(report),
        "table": table("The ramp", columns, [("", rows)]),
    }


def _ramp_row(each: RampChangeShown) -> Row:
    tone = "bad" if each.kind == "rolled_back" else "open" if each.kind == "overridden" else ""
    share = Cell(f"{each.share:.3g}", drawing=amount_bar(Estimate(each.share), 1.0, ""))
    cells = (Cell(each.kind.replace("_", " "), tone=tone), share, Cell(each.by), Cell(each.reason))
    return Row(Cell(say.when(each.at)), cells)


def _side_by_side(candidates: Sequence[Report]) -> dict[str, Any] | None:
    """A row for each candidate, on one scale; None for fewer than two."""
    found = [(each, c) for each in candidates if (c := each.primary) is not None]
    if len(found) < 2:
        return None
    differences, margin = [c.difference for _, c in found], found[0][1].margin
    scale = IntervalScale(extent(differences, margin), margin)
    places = say.digits_of(*differences, margin=margin)
    columns = (
        Column("Candidate", "text"),
        Column("Verdict", "text"),
        Column("Difference, + is better"),
        Column("against the margin", "drawing"),
        Column("Pairs"),
        Column("Requests to go"),
        Column("Cost per 1k", shown=any(map(_cost_of_candidate, candidates))),
    )
    rows = [_beside(each, c, scale, places) for each, c in found]
    lead = f"The primary metric, {titled(found[0][1])}, of every candidate against the same control."
    return {"lead": lead, "table": table("The candidates, side by side", columns, [("", rows)])}


def _beside(report: Report, c: Comparison, scale: IntervalScale, places: int) -> Row:
    shown, state = badge(report)
    left = report.progress.requests if report.progress and report.progress.open else None
    target = next((arm.target for arm in report.arms if arm.arm == report.candidate), "")
    cells = (
        Cell(shown, tone=_TONES[state]),
        _estimate(c.difference, places, signed=True),
        Cell(drawing=interval_bar(c.difference, scale, _TONES[finding_state(c)])),
        Cell(say.count(c.pairs)),
        Cell("" if left is None else say.count(left)),
        Cell(_cost_of_candidate(report)),
    )
    return Row(Cell(report.candidate, target), cells)


def _cost_of_candidate(report: Report) -> str:
    """ "" where no price is known."""
    both = arms_compared(report)
    cost = both[1].cost_per_1k if both else None
    return "" if cost is None or cost.value is None else say.dollars(cost.value)


def _repeats(reason: str, sentence: str) -> bool:
    """Whether the numbers of a reason are in the headline."""
    numbers = reason.partition("(")[2].removesuffix(")")
    return bool(numbers) and numbers in sentence


def _next(report: Report) -> dict[str, Any] | None:
    """What is left until the verdict: a row for each open condition, and what would shorten it."""
    p = report.progress
    if p is None or not p.open:
        return None
    columns = (
        Column("Open", "text"),
        Column("So far"),
        Column("Margin"),
        Column("Values"),
        Column("Pairs to go"),
        Column("Requests to go"),
        Column("Time at this pace"),
        Column("Paid, and to go", "drawing", shown=any(each.pairs is not None for each in p.open)),
    )
    most = report.pairs + max((each.pairs or 0 for each in p.open), default=0)
    rows = [_open_condition(each, report.pairs, most) for each in p.open]
    return {
        "lead": "Extrapolated: the difference, its spread and the pace are taken to stay as they are.",
        "table": table("What is left until the verdict", columns, [("", rows)]),
        "steps": [step_line(each) for each in p.steps],
    }


def _open_condition(each: OpenCondition, so_far: int, most: int) -> Row:
    """so_far: settled pairs. most: pairs until the last condition is closed, which fill the drawing."""
    unknown = "unknown" if not each.failed else "failed" if each.kind == "gate" else "closed"
    cells = (
        _estimate(each.estimate, say.digits_of(each.estimate, margin=each.margin), signed=True),
        Cell(f"{each.margin:g}" if each.margin else ""),
        Cell(say.count(each.values)),
        Cell(unknown if each.pairs is None else say.count(each.pairs)),
        Cell("" if each.requests is None else say.count(each.requests)),
        Cell("" if each.days is None else say.span(each.days)),
        Cell(drawing=price_bar(so_far, each.pairs, most)),
    )
    return Row(Cell(each.name, each.kind), cells)


def _left_tile(report: Report) -> Tile | None:
    p = report.progress
    if p is None or not p.open:
        return None
    figure = "unknown" if p.pairs is None else say.counted(p.pairs, "pair")
    if p.requests is not None:
        figure = say.counted(p.requests, "request")
    days = "" if p.days is None else f"{say.span(p.days)} at this pace; "
    return Tile("Still to go", figure, f"{days}for {p.waits_for}")


def _difference_tile(report: Report) -> Tile | None:
    if (c := report.primary) is None or c.difference.value is None:
        return None
    places = say.digits_of(c.difference, margin=c.margin)
    margin = f"; margin {c.margin:g}" if c.margin else ""
    value = say.number(c.difference.value, places, signed=True)
    return Tile(f"Difference on {titled(c)}, + is better", value, f"{say.interval(c.difference, places)}{margin}")


def _pairs_tile(report: Report) -> Tile:
    effective = f"{say.count(report.primary.effective_n)} effective; " if report.primary else ""
    withheld = say.count(pairs_drawn(report) - report.pairs)
    return Tile("Pairs", say.count(report.pairs), f"{effective}{withheld} withheld")


def _cost_tile(report: Report) -> Tile | None:
    if (both := arms_compared(report)) is None or report.likelihood is not None:
        return None
    before, after = (arm.cost_per_1k for arm in both)
    if not before or not after or not before.value or after.value is None:
        return None
    details = f"{say.dollars(before.value)} → {say.dollars(after.value)}"
    return Tile("Cost per 1k requests", say.change(before.value, after.value), details)


def _latency_tile(report: Report) -> Tile | None:
    if (both := latency_compared(report)) is None:
        return None
    (before, after), arm = (each.p95.value for each in both), both[0].arm
    if before is None or after is None:
        return None
    places = say.digits(max(abs(after - before), 0.1))
    details = f"{say.number(before, places)} s ({arm}) → {say.number(after, places)} s"
    return Tile("Time by which 95 % are answered", f"{say.number(after - before, places, signed=True)} s", details)


def _course(report: Report) -> Iterator[CourseChart]:
    by_metric = {c.metric: c for c in comparisons(report)}
    primary = report.primary.metric if report.primary else None
    for i, trail in enumerate(report.trails):
        c, small = by_metric.get(trail.metric), trail.metric != primary
        title = titled(c) if c else trail.metric
        margin, final = (c.margin, c.difference) if c else (None, None)
        chart = trail_chart(Trail(f"trail-{i}", trail, title, margin, small, final))
        if chart:
            yield CourseChart(chart, title, f": {finding(c)}" if c else "", small)


def _gate(gate: GateResult) -> dict[str, str]:
    state = f"{SIGNS[gate.state]} {STATES[gate.state]}"
    return {"tone": _TONES[gate.state], "state": state, "name": gate.name, "reason": gate.says}


def _metrics(report: Report) -> dict[str, Any]:
    found = comparisons(report)
    columns = (
        Column("Metric", "text"),
        Column("Control, as measured"),
        Column("Candidate, as measured"),
        Column("Difference, + is better"),
        Column("against its margin", "drawing"),
        Column("Not adjusted", shown=any(c.raw for c in found)),
        Column("Noise floor", shown=any(c.noise for c in found)),
        Column("Pairs"),
        Column("As people judge", shown=any(c.corrected for c in found)),
        Column("Found", "text"),
    )
    groups = [(title, [_metric(c) for c in found if c.role == role]) for role, title in _ROLES]
    fixed = any(c.method.startswith("fixed n") for c in found)
    holds = "which is for one look, at the end" if fixed else "which holds at every look"
    lead = (
        f"Differences are turned so that + is better for the candidate; each stands over its interval, {holds}. "
        "Noise floor: the control against itself, asked again."
    )
    return {"lead": lead, "table": table("Each metric in both arms", columns, groups), "methods": _methods(found)}


def _methods(found: list[Comparison]) -> str:
    """Which method each metric's interval is made by."""
    methods = list(dict.fromkeys(c.method for c in found if c.method))
    named = (f"{method} ({', '.join(c.metric for c in found if c.method == method)})" for method in methods)
    adjusted = [text for c in found for text in (people_line(c), responses_line(c), saving(c)) if text]
    return " ".join([f"Intervals: {'; '.join(named)}.", *adjusted]) if methods else ""


def _metric(c: Comparison) -> Row:
    places, arm_places = say.digits_of(c.difference, margin=c.margin), say.digits_of(c.a, c.b, margin=c.margin)
    tone = _TONES[finding_state(c)]
    bar = interval_bar(c.difference, IntervalScale(extent([c.difference], c.margin), c.margin), tone)
    effective = "" if c.effective_n == c.pairs else f"{say.count(c.effective_n)} effective"
    if c.responses is not None:
        effective = f"rated {say.share(c.responses.a.share)}, {say.share(c.responses.b.share)}"
    cells = (
        _estimate(c.a, arm_places),
        _estimate(c.b, arm_places),
        _estimate(c.difference, places, signed=True),
        Cell(drawing=bar),
        _estimate(c.raw, places, signed=True),
        _estimate(c.noise, places, signed=True),
        Cell(say.count(c.pairs), effective),
        _as_people_judge(c, places),
        Cell(finding(c), tone=tone),
    )
    return Row(Cell(c.metric, ", ".join(each for each in (c.unit, _LESS[c.better]) if each)), cells)


def _as_people_judge(c: Comparison, places: int) -> Cell:
    cell, look = _estimate(c.corrected, places, signed=True), people_look(c)
    return replace(cell, note=f"{cell.note}; {look}" if cell.note else look) if look else cell


def _estimate(e: Estimate | None, places: int, *, signed: bool = False) -> Cell:
    """The value with its interval below it."""
    if e is None:
        return Cell()
    bounds = "" if e.low is None and e.high is None else say.interval(e, places, signed=signed)
    return Cell(say.number(e.value, places, signed=signed), bounds)


def _wins(report: Report) -> dict[str, Any] | None:
    if (w := report.wins) is None or not (n := w.wins + w.ties + w.losses):
        return None
    parts = (
        (w.wins, "wins", "candidate preferred", w.win_share),
        (w.ties, "ties", "tie", w.tie_share),
        (w.losses, "losses", "control preferred", w.loss_share),
    )
    legend = [
        {"look": look, "name": name, "count": say.count(k), "share": f"{say.share(k / n)}{share_interval(e)}"}
        for k, look, name, e in parts
    ]
    both = (
        f"Judged in both orders. The winner changed with the order in {say.share(w.flip_rate)}, which makes a tie; the "
        f"answer shown first won {say.share(w.first_slot_rate)} of the time."
    )
    lead = "" if w.flip_rate is None and w.first_slot_rate is None else both
    return {"lead": lead, "bar": share_bar([(k, look) for k, look, _, _ in parts]), "legend": legend}


def _likeness(report: Report) -> dict[str, Any]:
    """The test "is the candidate like the control?"."""
    columns = (Column("Distance", "text"), Column("Pairs"), Column("Farther by"), Column("p"))
    rows = [
        Row(
            Cell(each.metric),
            (Cell(say.count(each.pairs)), Cell(say.number(each.farther, 3, signed=True)), Cell(say.number(each.p, 4))),
        )
        for each in report.likeness
    ]
    lead = (
        "How much farther the served answer is from the candidate's than from the control's own next one; below 0 it "
        "is nearer, as with a lower temperature. A small p says that the candidate is not like the control; a large "
        "one proves nothing. It decides nothing."
    )
    return {"lead": lead, "table": table("Distances to the served answer", columns, [("", rows)])}


def _strengths(report: Report) -> dict[str, Any]:
    """The strength of each of three or more arms."""
    columns = (Column("Arm", "text"), Column("Log odds against the control"), Column("Standard error"))
    rows = [
        Row(Cell(each.arm), (Cell(say.number(each.log_odds, 2, signed=True)), Cell(say.number(each.se, 2))))
        for each in report.strengths
    ]
    first = say.number(report.first_place, 2, signed=True)
    lead = f"By pairwise verdicts (Bradley–Terry). Being shown first is worth {first}."
    return {"lead": lead, "table": table("Strength by arm", columns, [("", rows)])}


def _strata(report: Report) -> dict[str, Any]:
    margin = report.primary.margin if report.primary else None
    differences = [each.difference for each in report.strata]
    scale = IntervalScale(extent(differences, margin), margin, FOREST_WIDTH)
    places = say.digits_of(*differences, margin=margin)
    columns = (Column("Part", "text"), Column("Pairs"), Column("Difference"), Column("against the margin", "forest"))
    rows = [_stratum(each, scale, places) for each in report.strata]
    on = titled(report.primary) if report.primary else "the primary metric"
    lead = f"The difference on {on} in parts of the traffic, on one scale. Of many parts some lie far off by chance."
    return {"lead": lead, "table": table("By stratum", columns, [("", rows)])}


def _segments(report: Report) -> dict[str, Any]:
    margin = report.primary.margin if report.primary else None
    differences = [each.difference for each in report.segments]
    scale = IntervalScale(extent(differences, margin), margin, FOREST_WIDTH)
    places = say.digits_of(*differences, margin=margin)
    columns = (Column("Where", "text"), Column("Pairs"), Column("Difference"), Column("against zero", "forest"))
    groups: dict[str, list[Row]] = {}
    for each in report.segments:
        state: State = {"better": 1, "unclear": 0, "worse": -1}[each.found]  # type: ignore[assignment]
        bar = interval_bar(each.difference, scale, _TONES[state])
        difference = _estimate(each.difference, places, signed=True)
        groups.setdefault(each.property, []).append(
            Row(Cell(each.value), (Cell(say.count(each.pairs)), difference, Cell(drawing=bar)))
        )
    return {"lead": SEGMENTS, "table": table("By segment, exploratory", columns, list(groups.items()))}


def _stratum(each: StratumDifference, scale: IntervalScale, places: int) -> Row:
    e, least = each.difference, -(scale.margin or 0)
    state: State = 1 if e.low is not None and e.low > least else -1 if e.high is not None and e.high < least else 0
    bar = interval_bar(e, scale, _TONES[state])
    return Row(Cell(each.name), (Cell(say.count(each.pairs)), _estimate(e, places, signed=True), Cell(drawing=bar)))


def _latency(report: Report) -> dict[str, Any]:
    colors = arm_colors(report)
    apart = (
        ""
        if all(each.comparable for each in report.latency)
        else " Dashed: asked by another path than the candidate, and not to be compared with it."
    )
    lead = f"For each arm, the share of answers that had come by then. Dots: half of them, and 95 %.{apart}"
    by_measure = {m: [each for each in report.latency if each.measure == m] for m in _MEASURES}
    measures = [_latency_measure(m, arms, colors) for m, arms in by_measure.items() if arms]
    return {"lead": lead, "measures": measures}


def _latency_measure(measure: str, arms: Sequence[ArmLatency], colors: dict[str, ArmColor]) -> dict[str, Any]:
    title = _MEASURES[measure]
    columns = (
        Column("Arm", "text"),
        Column("Answers"),
        Column("Half by, s"),
        Column("95 % by, s"),
        Column("Path", "text"),
    )
    rows = [_latency_row(each, colors[each.arm]) for each in arms]
    chart = latency_chart(LatencyCurves(f"latency-{measure}", title, arms, colors))
    return {"title": title, "chart": chart, "table": table(f"{title}: latency by arm", columns, [("", rows)])}


def _latency_row(each: ArmLatency, color: ArmColor) -> Row:
    places = say.digits_of(each.p50, each.p95)
    key = line_key(color if each.comparable else f"{color} apart")
    path = "the candidate's" if each.comparable else "another"
    quantiles = (_estimate(e, places) for e in (each.p50, each.p95))
    return Row(Cell(each.arm, drawing=key), (Cell(say.count(each.n)), *quantiles, Cell(path)))


def _arms(report: Report) -> Table:
    costs = [each.cost_per_1k for each in report.arms if each.cost_per_1k and each.cost_per_1k.value is not None]
    most = max((v for e in costs for v in (e.value, e.high) if v is not None), default=0.0)
    columns = (
        Column("Arm", "text"),
        Column("Asked"),
        Column("Failed"),
        Column("Served to clients"),
        Column("Tokens in"),
        Column("Tokens out"),
        Column("USD per 1k", shown=bool(costs)),
        Column("cost", "drawing", bool(costs)),
    )
    colors = arm_colors(report)
    return table("The arms", columns, [("", [_arm(each, most, colors[each.arm]) for each in report.arms])])


def _arm(each: Arm, most: float, color: ArmColor) -> Row:
    cost = each.cost_per_1k
    cells = (
        Cell(say.count(each.asked)),
        Cell(say.count(each.failed), say.share(each.failed / each.asked) if each.asked else ""),
        Cell(say.count(each.served)),
        Cell(say.number(each.input_tokens, 0)),
        Cell(say.number(each.output_tokens, 0)),
        dollars_cell(cost),
        Cell(drawing=amount_bar(cost, most, color) if cost else None),
    )
    return Row(Cell(each.arm, each.target), cells)


def dollars_cell(e: Estimate | None) -> Cell:
    if e is None:
        return Cell()
    bounds = "" if e.low is None and e.high is None else f"{say.dollars(e.low)} … {say.dollars(e.high)}"
    return Cell(say.dollars(e.value), bounds)


def _groups(examples: Sequence[ExamplePair]) -> list[dict[str, Any]]:
    """The pairs under a title: regressions by what went wrong, then the others."""
    titles = [f"Regressions: {each.group}" if each.regression else "Other pairs" for each in examples]
    return [
        {"title": title, "pairs": [_example(e) for e, of in zip(examples, titles, strict=True) if of == title]}
        for title in dict.fromkeys(titles)
    ]


def _example(each: ExamplePair) -> dict[str, Any]:
    control, candidate = side_by_side(each.control, each.candidate)
    scores = [(metric, f"{say.number(a, 3)} → {say.number(b, 3)}") for metric, a, b in each.scores]
    if each.distance is not None:
        scores.append(("distance", say.number(each.distance, 3)))
    return {
        "reason": each.why,
        "control_id": each.exchange,
        "candidate_id": each.beside,
        "question": _end_of(each.question),
        "reference": _end_of(each.reference) if each.reference else [],
        "control": control,
        "candidate": candidate,
        "scores": scores,
    }


def _end_of(question: str) -> list[Segment]:
    """The end of a long question: the last turn is what is asked."""
    left_out = len(question) - QUESTION_CHARACTERS
    return [omission(left_out), Segment(question[left_out:])] if left_out > 0 else [Segment(question)]


def _withheld(report: Report) -> dict[str, Any]:
    total = pairs_drawn(report)
    rows = [
        Row(Cell(reason), (Cell(say.count(n)), Cell(say.share(n / total)))) for reason, n in report.withheld if total
    ]
    columns = (Column("Reason", "text"), Column("Pairs"), Column("Of all"))
    lead = f"Drawn, and without a comparison: {say.count(total - report.pairs)} of {say.counted(total, 'pair')}."
    return {
        "lead": lead, "table": table("Withheld pairs", columns, [("", rows)]), "notes": withheld_notes(report)
    }  # fmt: skip
