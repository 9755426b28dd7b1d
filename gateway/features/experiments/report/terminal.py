"""A report on the terminal: the verdict, then its evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.sanitize import plain
from gateway.features.experiments.report.likelihood import likelihood_lines
from gateway.features.experiments.report.presentation import (
    SEGMENTS,
    SIGNS,
    STATES,
    badge,
    comparisons,
    figures,
    finding,
    finding_state,
    headline,
    next_lines,
    override_lines,
    pairs_drawn,
    people_line,
    people_look,
    ramp_line,
    responses_line,
    saving,
    segment_lines,
    share_interval,
    sharing,
    titled,
    verdict_line,
    withheld_notes,
)
from gateway.reports import number_format as say
from gateway.reports.model import Arm, ArmLatency, Comparison, Estimate, IntervalTrail, Report, State

LINES = 15  # of the short form
_STYLES: dict[State, str] = {1: "green", 0: "yellow", -1: "red"}
_ROLES = {"primary": "primary", "guardrail": "guardrail", "other": ""}
_COLUMNS, _ROWS = 60, 9  # of the drawing; with an odd number, one row is at zero
_SETTLED = 0.1  # an interval from before this share of the pairs may leave the drawing


def to_terminal(report: Report, *, full: bool = False) -> RenderableType:
    """The verdict and what is left until it, in at most LINES lines of a wide terminal. full: all the evidence."""
    return Group(*(_parts(report) if full else _short(report)))


def _short(report: Report) -> Iterator[RenderableType]:
    style = _STYLES[badge(report)[1]]
    yield _text(headline(report), f"bold {style}")
    yield _text(_head(report), "dim")
    segments = [_text(line, "dim") for line in segment_lines(report)]
    lines = [*_ramped(report), *_cautions(report), *_figures(report), *_next(report), *_deciding(report), *segments]
    yield from lines[: LINES - 3]
    yield _text(f"gateway report {report.experiment} --full shows all the evidence, --html FILE a page", "dim")


def _cautions(report: Report) -> Iterator[Text]:
    yield from (_text(f"! {caution}", "yellow") for caution in report.cautions)


def _ramped(report: Report) -> Iterator[Text]:
    line = ramp_line(report)
    if line is not None:
        yield _text(line)
    if headline(report) != verdict_line(report):
        yield _text(f"Verdict on the pairs: {verdict_line(report)}")
    yield from (_text(f"! {each}", "yellow") for each in override_lines(report))


def _figures(report: Report) -> Iterator[Text]:
    yield _text("; ".join(f"{name}: {figure}" for name, figure in figures(report)))
    yield from (_text(text, "dim") for text in _notes(report))


def _notes(report: Report) -> Iterator[str]:
    """What metrics that decide are as people judge, what they rest on, what adjusting saves, how candidates share."""
    rated = (responses_line(c) for c in comparisons(report) if c.role != "other")
    people = (people_line(c) for c in comparisons(report) if c.role != "other")
    yield from (text for text in (*people, *rated, saving(report.primary), sharing(report.family)) if text)


def _next(report: Report) -> Iterator[Text]:
    """While undecided: how it stands, what is open, what would shorten it."""
    yield from (_text(line) for line in next_lines(report) if report.verdict == "hold")


def _deciding(report: Report) -> Iterator[Text]:
    """What went wrong, then a line for each red gate and each metric with a margin that is decided."""
    if report.regressions:
        groups = ", ".join(f"{group} {n}" for group, n in report.regressions)
        yield _text(f"Where the candidate is worse: {groups}")
    left = {each.name for each in report.progress.open} if report.progress else set()
    for gate in report.gates:
        if gate.state < 0 or (gate.state == 0 and gate.name not in left):
            yield _text(f"{SIGNS[gate.state]} gate {gate.name}: {gate.says}", _STYLES[gate.state])
    for c in comparisons(report):
        if c.role != "other" and c.metric not in left:
            state = finding_state(c)
            places = say.digits_of(c.difference, margin=c.margin)
            difference = _inline(c.difference, places, signed=True)
            yield _text(f"{SIGNS[state]} {c.role} {titled(c)}: {difference}; {finding(c)}", _STYLES[state])


def _parts(report: Report) -> Iterator[RenderableType]:
    style, first = _STYLES[badge(report)[1]], headline(report)
    yield _text(report.sentence if first == verdict_line(report) else first, f"bold {style}")
    for reason in report.reasons:
        yield _text(f"  {reason}", style)
    yield from _cautions(report)
    yield from _ramped(report)
    yield _text(_head(report), "dim")
    yield from map(_text, _notes(report))
    if report.progress is not None and report.progress.open:
        yield _text(report.progress.sentence)
    yield from _next(report)
    for title, part in (
        ("Ramp", _ramp(report)),
        ("Gates", _gates(report)), ("Metrics", _metrics(report)), ("Course", _course(report)), ("Wins", _wins(report)),
        ("Likelihood", _likelihood(report)),
        ("Strata", _strata(report)), ("Segments", _segments(report)), ("Latency, s", _latency(report)),
        ("Arms", _arms(report)), ("Withheld", _withheld(report)), ("Limits", _limits(report)),
    ):  # fmt: skip
        if part is not None:
            yield _text(f"\n{title}", "bold")
            yield part
    versions = "".join(f", {name} {version}" for name, version in report.versions)
    yield _text(f"\nplan {report.plan}{versions}", "dim")
    yield _text(report.command, "dim")


def _likelihood(report: Report) -> RenderableType | None:
    lines = likelihood_lines(report.likelihood)
    return Group(*map(_text, lines)) if lines else None


def _head(report: Report) -> str:
    span = f", {say.when(report.first)} to {say.when(report.last)}" if report.first is not None else ""
    return f"{report.experiment}, candidate {report.candidate}: {say.counted(report.pairs, 'pair')}{span}"


def _ramp(report: Report) -> RenderableType | None:
    """The share over time."""
    if report.ramp is None:
        return None
    shown = _table("when", "what", "share>", "by", "why")
    for each in report.ramp.changes:
        cells = (say.when(each.at), each.kind.replace("_", " "), f"{each.share:.3g}", each.by, each.reason)
        shown.add_row(*map(_text, cells))
    return shown


def _gates(report: Report) -> RenderableType | None:
    if not report.gates:
        return None
    shown = _table("", "", "")
    for gate in report.gates:
        state = _text(f"{SIGNS[gate.state]} {STATES[gate.state]}", _STYLES[gate.state])
        shown.add_row(state, _text(gate.name), _text(gate.says))
    return shown


def _metrics(report: Report) -> RenderableType | None:
    found = comparisons(report)
    corrected, adjusted = any(c.corrected for c in found), any(c.raw for c in found)
    shown = _table("metric", "control>", "candidate>", "difference, + is better>",
                   *(["not adjusted>"] if adjusted else []), "noise floor>", "pairs>",
                   *(["as people judge>"] if corrected else []), "margin>", "found")  # fmt: skip
    for c in found:
        shown.add_row(*_metric(c, corrected, adjusted))
    return shown if found else None


def _metric(c: Comparison, corrected: bool, adjusted: bool) -> list[Text]:
    places, of_arms = say.digits_of(c.difference, margin=c.margin), say.digits_of(c.a, c.b, margin=c.margin)
    effective = "" if c.effective_n == c.pairs else f"\n{say.count(c.effective_n)} effective"
    if c.responses is not None:
        effective += f"\nrated {say.share(c.responses.a.share)}, {say.share(c.responses.b.share)}"
    cells = [
        f"{titled(c)}\n{_role(c)}".rstrip(), say.number(c.a.value, of_arms), say.number(c.b.value, of_arms),
        _over(c.difference, places), *([_over(c.raw, places)] if adjusted else []), _over(c.noise, places),
        f"{say.count(c.pairs)}{effective}",
        *([_as_people_judge(c, places)] if corrected else []), say.NONE if c.margin is None else f"{c.margin:g}",
    ]  # fmt: skip
    return [*map(_text, cells), _text(finding(c), _STYLES[finding_state(c)])]


def _role(c: Comparison) -> str:
    less = "less is better" if c.better == "lower" else ""
    return ", ".join(each for each in (_ROLES[c.role], less) if each)


def _over(e: Estimate | None, places: int) -> str:
    """The value with its interval below it."""
    if e is None:
        return say.NONE
    bounds = "" if e.low is None and e.high is None else f"\n{say.interval(e, places)}"
    return f"{say.number(e.value, places, signed=True)}{bounds}"


def _as_people_judge(c: Comparison, places: int) -> str:
    """As _over, with the looks at which the interval is valid."""
    return "\n".join(each for each in (_over(c.corrected, places), people_look(c)) if each)


def _inline(e: Estimate, places: int, *, signed: bool = False) -> str:
    value = say.number(e.value, places, signed=signed)
    return value if e.low is None and e.high is None else f"{value} [{say.interval(e, places, signed=signed)}]"


def _course(report: Report) -> RenderableType | None:
    """The course of the primary difference and its interval."""
    c = report.primary
    trail = next((each for each in report.trails if c is not None and each.metric == c.metric), None)
    if c is None or trail is None:
        return None
    rows = list(_drawing(trail, c.margin or 0.0))
    key = f"{'':>9}█ difference  ░ its interval at every look  ╌ margin"
    final = say.interval(c.difference, say.digits_of(c.difference, margin=c.margin))
    decides = f"{'':>9}at the end the interval that decides: {final}"
    return Group(*rows, _text(key, "dim"), _text(decides, "dim")) if rows else None


def _drawing(trail: IntervalTrail, margin: float) -> Iterator[Text]:
    points = say.thinned([p for p in trail.points if not any(map(math.isnan, p))], _COLUMNS)
    if not points:
        return
    settled = [p for p in points if p[0] >= _SETTLED * points[-1][0]]
    extent = max([abs(v) for p in settled for v in p[1:] if math.isfinite(v)] + [1.3 * margin]) or 1.0
    half, places = extent / _ROWS, say.digits(margin or extent)
    for row in range(_ROWS):
        middle = extent - (2 * row + 1) * half
        drawn = Text(f"{say.number(middle, places, signed=True):>8} ", "dim")
        yield drawn.append_tokens(_mark(p, middle, half, margin) for p in points)
    yield _text(f"{'':>9}1 {say.count(points[-1][0]):>{max(1, len(points) - 2)}} pairs", "dim")


def _mark(point: tuple[int, float, float, float], middle: float, half: float, margin: float) -> tuple[str, str]:
    """The character in a cell of the drawing, and its style."""
    _, value, low, high = point
    if abs(value - middle) <= half:
        return "█", "cyan"
    if low - half <= middle <= high + half:
        return "░", "cyan"
    if margin and abs(middle + margin) <= half:
        return "╌", "red"
    return ("─", "dim") if abs(middle) <= half else (" ", "")


def _wins(report: Report) -> RenderableType | None:
    if (w := report.wins) is None or not (n := w.wins + w.ties + w.losses):
        return None
    parts = (("candidate preferred", w.wins, w.win_share), ("tie", w.ties, w.tie_share),
             ("control preferred", w.losses, w.loss_share))  # fmt: skip
    preferred = ", ".join(f"{name} {say.count(k)} ({say.share(k / n)}{share_interval(e)})" for name, k, e in parts)
    if w.flip_rate is None and w.first_slot_rate is None:
        return _text(preferred)
    bias = f"the winner changed with the order in {say.share(w.flip_rate)}, "
    return _text(f"{preferred}; {bias}the answer shown first won {say.share(w.first_slot_rate)}")


def _strata(report: Report) -> RenderableType | None:
    places = say.digits_of(*(each.difference for each in report.strata))
    shown = _table("part", "pairs>", "difference>")
    for each in report.strata:
        shown.add_row(
            _text(each.name), _text(say.count(each.pairs)), _text(_inline(each.difference, places, signed=True))
        )
    return shown if report.strata else None


def _segments(report: Report) -> RenderableType | None:
    if not report.segments:
        return None
    places = say.digits_of(*(each.difference for each in report.segments))
    shown = _table("where", "pairs>", "difference>", "")
    for each in report.segments:
        found = "" if each.found == "unclear" else each.found
        difference = _inline(each.difference, places, signed=True)
        cells = (f"{each.property} = {each.value}", say.count(each.pairs), difference, found)
        shown.add_row(*map(_text, cells))
    return Group(_text(SEGMENTS, "dim"), shown)


def _latency(report: Report) -> RenderableType | None:
    shown = _table("arm", "measure", "answers>", "p50>", "p95>", "")
    for each in report.latency:
        shown.add_row(*map(_text, _of_latency(each)))
    return shown if report.latency else None


def _of_latency(each: ArmLatency) -> tuple[str, ...]:
    places = say.digits_of(each.p50, each.p95)
    p50, p95 = (_inline(e, places) for e in (each.p50, each.p95))
    apart = "" if each.comparable else "asked by another path: not to be compared"
    return each.arm, each.measure, say.count(each.n), p50, p95, apart


def _arms(report: Report) -> RenderableType | None:
    shown = _table("arm", "target", "asked>", "failed>", "served>", "tokens in>", "tokens out>", "USD per 1k>")
    for each in report.arms:
        shown.add_row(*map(_text, _of_arm(each)))
    return shown if report.arms else None


def _of_arm(each: Arm) -> tuple[str, ...]:
    cost = say.dollars(each.cost_per_1k.value) if each.cost_per_1k else say.NONE
    counts = (say.count(n) for n in (each.asked, each.failed, each.served))
    return each.arm, each.target, *counts, say.number(each.input_tokens, 0), say.number(each.output_tokens, 0), cost


def _withheld(report: Report) -> RenderableType | None:
    total = pairs_drawn(report)
    counts = (f"{reason} {say.count(n)} ({say.share(n / total)})" for reason, n in report.withheld if total)
    lines = ["; ".join(counts), *withheld_notes(report)]
    return Group(*map(_text, lines)) if report.withheld else None


def _limits(report: Report) -> RenderableType | None:
    return Group(*(_text(f"- {limit}") for limit in report.limits)) if report.limits else None


def _table(*titles: str) -> Table:
    """A title that ends in > has a right-aligned column of numbers."""
    shown = Table(box=None, pad_edge=False, header_style="dim", show_header=any(titles))
    for title in titles:
        if title.endswith(">"):
            shown.add_column(title.rstrip(">"), justify="right", no_wrap=True)
        else:
            shown.add_column(title)
    return shown


def _text(text: str, style: str = "") -> Text:
    """Text without rich's markup and without control characters, since names come from requests and answers."""
    return Text(plain(text), style)
