"""The sections of an experiment's report: a new row, column or section is added here, and every form has it.

The forms are the terminal (terminal.py), the HTML page (html.py) and the console's page. Only the verdict above the
sections is set by each form in its own way, and examples are on pages alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from gateway.core.plan import REPEAT
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
    interval_text,
    latency_chart,
    line_key,
    price_bar,
    share_bar,
    trail_chart,
)
from gateway.reports.model import (
    Arm,
    ArmLatency,
    Comparison,
    DeclaredSegment,
    Estimate,
    KeptTraffic,
    OpenCondition,
    RampChangeShown,
    RampHistory,
    Report,
    State,
    StratumDifference,
)
from gateway.reports.section import CaptionedChart, Cell, Column, ReportSection, Row, table
from gateway.reports.terms import TERMS
from gateway.reports.time_charts import RampTimeline, ramp_chart, ramp_step, ramp_tone, short_time
from gateway.verdict.metrics import SAME_PATH
from gateway.verdict.report.best import best_section
from gateway.verdict.report.cells import dollars_cell as _dollars
from gateway.verdict.report.cells import estimate_cell as _estimate
from gateway.verdict.report.likelihood import likelihood_lines
from gateway.verdict.report.presentation import (
    SEGMENT_STATES,
    SEGMENTS,
    STATES,
    TONES,
    ArmColor,
    arm_colors,
    arms_compared,
    badge,
    comparisons,
    finding,
    finding_state,
    kept_lines,
    override_lines,
    pairs_drawn,
    people_line,
    people_look,
    ramp_line,
    responses_line,
    saving,
    segment_scale,
    share_interval,
    step_line,
    titled,
    weak_spot_lines,
    withheld_notes,
)
from gateway.verdict.sentence import SIGNS
from gateway.verdict.sequences.latency import P95

_ROLES = (("primary", "Primary: decides"), ("guardrail", "Guardrails: each must hold"), ("other", "Not tested"))
_LESS = {"higher": "", "lower": "less is better"}
_MEASURES = {"total_s": "Whole answers", "first_token_s": "First token"}
_COURSE = (
    "Line: the difference so far; above zero the candidate is better. Band: its interval at every look. Bar at the "
    "end: the interval that decides; it is narrower than the band at the last look, and where it is for one look at "
    "the end. Shaded: smaller than the margin."
)


def sections_of(report: Report, candidates: Sequence[Report] = ()) -> list[ReportSection]:
    """The sections that have content, in order. candidates: the reports of all candidates of the experiment."""
    decision = [_declared(report), _next(report), _ramp(report), _course(report), _gates(report)]
    scores = [_metrics(report), _likelihood(report), _wins(report), _likeness(report), _strengths(report)]
    groups = [_strata(report), _segments(report)]
    traffic = [_latency(report), _arms(report), _withheld(report)]
    limits = ReportSection("limits", "Limits", items=report.limits)
    several = best_section(report) if report.best else _side_by_side(candidates)
    found = [several, *decision, *scores, *groups, *traffic, limits]
    return [section for section in found if section]


def _side_by_side(candidates: Sequence[Report]) -> ReportSection | None:
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
    shown = table("The candidates, side by side", columns, [("", rows)])
    guide = f"The primary metric, {titled(found[0][1])}, of every candidate against the same control."
    return ReportSection("candidates", "The candidates, side by side", guide=guide, rows=shown, on="page")


def _beside(report: Report, c: Comparison, scale: IntervalScale, places: int) -> Row:
    shown, state = badge(report)
    left = report.progress.requests if report.progress and report.progress.open else None
    target = next((arm.target for arm in report.arms if arm.arm == report.candidate), "")
    cells = (
        Cell(shown, tone=TONES[state]),
        _estimate(c.difference, places, signed=True),
        Cell(drawing=interval_bar(c.difference, scale, TONES[finding_state(c)])),
        Cell(say.count(c.pairs)),
        Cell("" if left is None else say.count(left)),
        Cell(_cost_of_candidate(report)),
    )
    return Row(Cell(report.candidate, target), cells)


def _cost_of_candidate(report: Report) -> str:
    """Empty where no price is known."""
    both = arms_compared(report)
    cost = both[1].cost_per_1k if both else None
    return "" if cost is None or cost.value is None else say.dollars(cost.value)


_DECLARED = (
    "Parts of the traffic that the plan declares, worst first. Each must not be worse by its own margin (dashed). The "
    "intervals are those that `ship` asks for; which segments may move without the others is decided with the error "
    "shared over all of them (Holm's procedure)."
)


def _declared(report: Report) -> ReportSection | None:
    """The plot of the declared segments, the metrics without the worse ones, and the search for weak spots."""
    found = report.declared
    if found is None:
        return None
    scale = segment_scale(found, FOREST_WIDTH)
    places = say.digits_of(*(each.difference for each in found.segments), margin=scale.margin)
    columns = (
        Column("Segment", "text"),
        Column("Share"),
        Column("Pairs"),
        Column("Difference"),
        Column("against its margin", "forest", on="page"),
        Column("against its margin", "text", on="terminal"),
        Column("Found", "text"),
    )
    rows = [_declared_row(each, scale, places) for each in found.segments]
    rows += [_kept_row(found.kept, scale, places)] if found.kept and rows else []
    lines = (*kept_lines(found.kept), *weak_spot_lines(found.weak_spot))
    on = titled(report.primary) if report.primary else "the primary metric"
    shown = table("Declared segments", columns, [("", rows)]) if rows else None
    return ReportSection("declared", f"Where it holds: {on} by segment", guide=_DECLARED, rows=shown, items=lines)


def _declared_row(each: DeclaredSegment, scale: IntervalScale, places: int) -> Row:
    word, state = SEGMENT_STATES[each.state]
    needed = f"about {say.counted(each.pairs_needed, 'pair')} more" if each.pairs_needed else ""
    cells = (
        Cell(say.share(each.share)),
        Cell(say.count(each.pairs)),
        _estimate(each.difference, places, signed=True),
        Cell(drawing=interval_bar(each.difference, scale, TONES[state])),
        Cell(interval_text(each.difference, scale)),
        Cell(word, needed if each.state == "undecided" else "", tone=TONES[state]),
    )
    return Row(Cell(each.name, "too few pairs to be waited for" if each.state == "rare" else ""), cells)


def _kept_row(kept: KeptTraffic, scale: IntervalScale, places: int) -> Row:
    """The traffic without the segments that do not hold, on their scale and with the margin of all traffic."""
    c, own = kept.metrics[0], replace(scale, margin=kept.metrics[0].margin)
    tone = TONES[finding_state(c)]
    cells = (
        Cell(say.share(kept.share)),
        Cell(say.count(c.pairs)),
        _estimate(c.difference, places, signed=True),
        Cell(drawing=interval_bar(c.difference, own, tone)),
        Cell(interval_text(c.difference, own)),
        Cell(finding(c), tone=tone),
    )
    return Row(Cell(f"without {', '.join(kept.excepted)}", "what a switch without them moves"), cells)


def _next(report: Report) -> ReportSection | None:
    """A row for each open condition of the verdict, and settings that would shorten it."""
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
    return ReportSection(
        "next",
        "What next",
        guide="Extrapolated: the difference, its spread and the pace are assumed not to change.",
        rows=table("What is left until the verdict", columns, [("", rows)]),
        note="What would shorten it:" if p.steps else "",
        items=tuple(step_line(each) for each in p.steps),
        on="page",
    )


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


def _ramp(report: Report) -> ReportSection | None:
    """The share over time; None if there is no ramp."""
    if report.ramp is None:
        return None
    columns = (
        Column("When", "text"),
        Column("What", "text"),
        Column("Share"),
        Column("By", "text"),
        Column("Why", "text"),
    )
    rows = table("The ramp", columns, [("", [_ramp_row(n, each) for n, each in enumerate(report.ramp.changes, 1)])])
    overrides = tuple(override_lines(report))
    chart = _ramp_chart(report, report.ramp)
    figures = (CaptionedChart(chart, "Share of the traffic"),) if chart else ()
    guide = ramp_line(report) or ""
    return ReportSection("ramp", "The ramp", guide=guide, rows=rows, figures=figures, warnings=overrides)


def _ramp_chart(report: Report, ramp: RampHistory) -> Chart | None:
    steps = [ramp_step(c.at, c.share, c.kind) for c in ramp.changes]
    return ramp_chart(RampTimeline("ramp", "Share of the traffic", steps, ramp.steps, report.created, short_time))


def _ramp_row(number: int, each: RampChangeShown) -> Row:
    """number: of the change, in the chart."""
    share = Cell(say.share(each.share))
    cells = (Cell(each.kind.replace("_", " "), tone=ramp_tone(each.kind)), share, Cell(each.by), Cell(each.reason))
    return Row(Cell(f"{number}. {say.when(each.at)}"), cells)


def _course(report: Report) -> ReportSection:
    """The course of each metric's difference; the primary's is large."""
    return ReportSection("course", "The difference, as pairs came", guide=_COURSE, figures=tuple(_trails(report)))


def _trails(report: Report) -> Iterator[CaptionedChart]:
    by_metric = {c.metric: c for c in comparisons(report)}
    primary = report.primary.metric if report.primary else None
    for i, points in enumerate(report.trails):
        c = by_metric.get(points.metric)
        title = titled(c) if c else points.metric
        margin, final = (c.margin, c.difference) if c else (None, None)
        trail = Trail(f"trail-{i}", points, title, margin, points.metric != primary, final)
        chart = trail_chart(trail)
        if chart:
            yield CaptionedChart(chart, title, f": {finding(c)}" if c else "", trail)


def _gates(report: Report) -> ReportSection:
    columns = (Column("State", "text"), Column("Gate", "text"), Column("Reason", "text"))
    rows = [
        Row(
            Cell(f"{SIGNS[g.state]} {STATES[g.state]}", tone=TONES[g.state]),
            (Cell(g.name, term=g.name if g.name in TERMS else ""), Cell(g.says)),
        )
        for g in report.gates
    ]
    guide = "Ship needs every gate green; a red one withholds every verdict."
    return ReportSection("gates", "Gates", guide=guide, rows=table("Gates", columns, [("", rows)]), look="list")


def _metrics(report: Report) -> ReportSection:
    found = comparisons(report)
    columns = (
        Column("Metric", "text"),
        Column("Control, as measured", notes=False),
        Column("Candidate, as measured", notes=False),
        Column("Difference, + is better"),
        Column("against its margin", "drawing"),
        Column("Not adjusted", shown=any(c.raw for c in found)),
        Column("Noise floor", shown=any(c.noise for c in found), term="noise floor"),
        Column("Pairs", term="effective" if any(c.effective_n != c.pairs for c in found) else ""),
        Column("As people judge", shown=any(c.corrected for c in found)),
        Column("Margin", on="terminal"),
        Column("Found", "text"),
    )
    groups = [(title, [_metric(c) for c in found if c.role == role]) for role, title in _ROLES]
    fixed = any(c.method.startswith("fixed n") for c in found)
    holds = "which is for one look, at the end" if fixed else "which holds at every look"
    guide = (
        f"A + is better for the candidate. Below each difference is its interval, {holds}. "
        "Noise floor: the control against itself, asked again."
    )
    rows = table("Each metric in both arms", columns, groups)
    note = " ".join(text for text in (_of_repeats(report, found), _methods(found)) if text)
    return ReportSection("metrics", "Metrics", guide=guide, rows=rows, note=note if rows else "")


def _of_repeats(report: Report, found: list[Comparison]) -> str:
    """The sentence on values of the control that are not those of its clients' answers; "" if there are none."""
    names = [c.metric for c in found if c.metric in (*SAME_PATH, P95)]
    if not names or all(arm.arm != REPEAT for arm in report.arms):
        return ""
    return (
        f"Of the control, {', '.join(names)}: as measured on its repeats, which take the candidate's path; the section "
        "Arms has what its clients got."
    )


def _methods(found: list[Comparison]) -> str:
    """The method of each metric's interval."""
    methods = list(dict.fromkeys(c.method for c in found if c.method))
    named = (f"{method} ({', '.join(c.metric for c in found if c.method == method)})" for method in methods)
    adjusted = [text for c in found for text in (people_line(c), responses_line(c), saving(c)) if text]
    return " ".join([f"Intervals: {'; '.join(named)}.", *adjusted]) if methods else ""


def _metric(c: Comparison) -> Row:
    places, arm_places = say.digits_of(c.difference, margin=c.margin), say.digits_of(c.a, c.b, margin=c.margin)
    tone = TONES[finding_state(c)]
    bar = interval_bar(c.difference, IntervalScale(extent([c.difference], c.margin), c.margin), tone)
    effective = "" if c.effective_n == c.pairs else f"{say.count(c.effective_n)} effective"
    rated = "" if c.responses is None else f"rated {say.share(c.responses.a.share)}, {say.share(c.responses.b.share)}"
    cells = (
        _estimate(c.a, arm_places),
        _estimate(c.b, arm_places),
        _estimate(c.difference, places, signed=True),
        Cell(drawing=bar),
        _estimate(c.raw, places, signed=True),
        _estimate(c.noise, places, signed=True),
        Cell(say.count(c.pairs), effective, more=rated),
        _as_people_judge(c, places),
        Cell("" if c.margin is None else f"{c.margin:g}"),
        Cell(finding(c), tone=tone),
    )
    return Row(Cell(c.metric, ", ".join(each for each in (c.unit, _LESS[c.better]) if each)), cells)


def _as_people_judge(c: Comparison, places: int) -> Cell:
    return replace(_estimate(c.corrected, places, signed=True), more=people_look(c))


def _likelihood(report: Report) -> ReportSection:
    """Lines for a terminal; pages show tokens, see likelihood.py."""
    lines = tuple(likelihood_lines(report.likelihood))
    return ReportSection("likelihood", "How likely the served answers are", items=lines, on="terminal")


def _wins(report: Report) -> ReportSection | None:
    if (w := report.wins) is None or not (n := w.wins + w.ties + w.losses):
        return None
    parts = (
        (w.wins, "wins", "candidate preferred", w.win_share),
        (w.ties, "ties", "tie", w.tie_share),
        (w.losses, "losses", "control preferred", w.loss_share),
    )
    rows = [
        Row(Cell(name, tone=look), (Cell(say.count(k)), Cell(f"{say.share(k / n)}{share_interval(e)}")))
        for k, look, name, e in parts
    ]
    both = (
        f"Judged in both orders. The winner changed with the order in {say.share(w.flip_rate)}, which makes a tie; the "
        f"answer shown first won {say.share(w.first_slot_rate)} of the time."
    )
    lead = "" if w.flip_rate is None and w.first_slot_rate is None else both
    columns = (Column("Verdict", "text"), Column("Pairs"), Column("Of all"))
    bar = share_bar([(k, look) for k, look, _, _ in parts])
    shown = table("Win, tie, loss", columns, [("", rows)])
    return ReportSection("wins", "Win, tie, loss", lead=lead, rows=shown, look="shares", shares=bar)


def _likeness(report: Report) -> ReportSection:
    """The test "is the candidate like the control?"."""
    columns = (Column("Distance", "text"), Column("Pairs"), Column("Farther by"), Column("p"))
    rows = [
        Row(
            Cell(each.metric),
            (Cell(say.count(each.pairs)), Cell(say.number(each.farther, 3, signed=True)), Cell(say.number(each.p, 4))),
        )
        for each in report.likeness
    ]
    guide = (
        "How much farther the served answer is from the candidate's than from the control's own next one; below 0 it "
        "is nearer, as with a lower temperature. A small p says that the candidate is not like the control; a large "
        "one proves nothing. It decides nothing."
    )
    shown = table("Distances to the served answer", columns, [("", rows)])
    return ReportSection("likeness", "Like the control?", guide=guide, rows=shown, on="page")


def _strengths(report: Report) -> ReportSection:
    """The strength of each of three or more arms."""
    columns = (Column("Arm", "text"), Column("Log odds against the control"), Column("Standard error"))
    rows = [
        Row(Cell(each.arm), (Cell(say.number(each.log_odds, 2, signed=True)), Cell(say.number(each.se, 2))))
        for each in report.strengths
    ]
    first = say.number(report.first_place, 2, signed=True)
    guide = f"By pairwise verdicts (Bradley–Terry). Being shown first is worth {first}."
    shown = table("Strength by arm", columns, [("", rows)])
    return ReportSection("strengths", "Several candidates", guide=guide, rows=shown, on="page")


def _one_scale(report: Report, differences: Sequence[Estimate]) -> tuple[IntervalScale, int]:
    """The scale of a table of differences of the primary metric, and their number of digits."""
    margin = report.primary.margin if report.primary else None
    scale = IntervalScale(extent(differences, margin), margin, FOREST_WIDTH)
    return scale, say.digits_of(*differences, margin=margin)


def _strata(report: Report) -> ReportSection:
    scale, places = _one_scale(report, [each.difference for each in report.strata])
    columns = (Column("Part", "text"), Column("Pairs"), Column("Difference"), Column("against the margin", "forest"))
    rows = [_stratum(each, scale, places) for each in report.strata]
    on = titled(report.primary) if report.primary else "the primary metric"
    guide = f"The difference on {on} in parts of the traffic, on one scale. Of many parts, some are far off by chance."
    return ReportSection("strata", "Where in the traffic", guide=guide, rows=table("By stratum", columns, [("", rows)]))


def _stratum(each: StratumDifference, scale: IntervalScale, places: int) -> Row:
    e, least = each.difference, -(scale.margin or 0)
    state: State = 1 if e.low is not None and e.low > least else -1 if e.high is not None and e.high < least else 0
    bar = interval_bar(e, scale, TONES[state])
    return Row(Cell(each.name), (Cell(say.count(each.pairs)), _estimate(e, places, signed=True), Cell(drawing=bar)))


def _segments(report: Report) -> ReportSection:
    scale, places = _one_scale(report, [each.difference for each in report.segments])
    columns = (
        Column("Where", "text"),
        Column("Pairs"),
        Column("Difference"),
        Column("against zero", "forest"),
        Column("Found", "text", on="terminal"),
    )
    groups: dict[str, list[Row]] = {}
    for each in report.segments:
        state: State = {"better": 1, "unclear": 0, "worse": -1}[each.found]  # type: ignore[assignment]
        bar = interval_bar(each.difference, scale, TONES[state])
        difference = _estimate(each.difference, places, signed=True)
        found = Cell("" if each.found == "unclear" else each.found, tone=TONES[state])
        cells = (Cell(say.count(each.pairs)), difference, Cell(drawing=bar), found)
        groups.setdefault(each.property, []).append(Row(Cell(each.value), cells))
    rows = table("By segment, exploratory", columns, list(groups.items()))
    return ReportSection("segments", "Segments, exploratory", lead=SEGMENTS, rows=rows)


def _latency(report: Report) -> ReportSection:
    """The arms' curves for each measure, and their quantiles in a table."""
    colors = arm_colors(report)
    apart = (
        ""
        if all(each.comparable for each in report.latency)
        else " Dashed: asked by another path than the candidate, and not to be compared with it."
    )
    guide = f"For each arm, the share of answers that had come by then. Dots: half of them, and 95 %.{apart}"
    by_measure = {m: [each for each in report.latency if each.measure == m] for m in _MEASURES}
    parts = tuple(_latency_measure(m, arms, colors) for m, arms in by_measure.items() if arms)
    return ReportSection("latency", "Latency", guide=guide, parts=parts)


def _latency_measure(measure: str, arms: Sequence[ArmLatency], colors: dict[str, ArmColor]) -> ReportSection:
    title = _MEASURES[measure]
    columns = (
        Column("Arm", "text"),
        Column("Answers"),
        Column("Half by, s"),
        Column("95 % by, s"),
        Column("Path", "text"),
    )
    rows = table(f"{title}: latency by arm", columns, [("", [_latency_row(each, colors[each.arm]) for each in arms])])
    chart = latency_chart(LatencyCurves(f"latency-{measure}", title, arms, colors))
    return ReportSection(measure, title, rows=rows, figures=(CaptionedChart(chart),) if chart else ())


def _latency_row(each: ArmLatency, color: ArmColor) -> Row:
    places = say.digits_of(each.p50, each.p95)
    key = line_key(color if each.comparable else f"{color} apart")
    path = "the candidate's" if each.comparable else "another: not to be compared"
    quantiles = (_estimate(e, places) for e in (each.p50, each.p95))
    return Row(Cell(each.arm, drawing=key), (Cell(say.count(each.n)), *quantiles, Cell(path)))


def _arms(report: Report) -> ReportSection:
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
    rows = table("The arms", columns, [("", [_arm(each, most, colors[each.arm]) for each in report.arms])])
    return ReportSection(
        "arms", "Arms, and what they cost", guide="Tokens are means of a request and of an answer.", rows=rows
    )


def _arm(each: Arm, most: float, color: ArmColor) -> Row:
    cost = each.cost_per_1k
    cells = (
        Cell(say.count(each.asked)),
        Cell(say.count(each.failed), say.share(each.failed / each.asked) if each.asked else ""),
        Cell(say.count(each.served)),
        Cell(say.number(each.input_tokens, 0)),
        Cell(say.number(each.output_tokens, 0)),
        _dollars(cost),
        Cell(drawing=amount_bar(cost, most, color) if cost else None),
    )
    return Row(Cell(each.arm, each.target), cells)


def _withheld(report: Report) -> ReportSection:
    total = pairs_drawn(report)
    rows = [
        Row(Cell(reason), (Cell(say.count(n)), Cell(say.share(n / total)))) for reason, n in report.withheld if total
    ]
    columns = (Column("Reason", "text"), Column("Pairs"), Column("Of all"))
    guide = f"Drawn, and without a comparison: {say.count(total - report.pairs)} of {say.counted(total, 'pair')}."
    shown = table("Withheld pairs", columns, [("", rows)])
    notes = tuple(withheld_notes(report)) if shown else ()
    return ReportSection("withheld", "Withheld", guide=guide, rows=shown, look="narrow", items=notes, term="withheld")
