"""Compared scores for a terminal, as JSON, as Markdown for a pull request, and as a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypedDict

from gateway import __version__
from gateway.core.sanitize import plain
from gateway.reports import number_format as say
from gateway.reports.charts import FOREST_WIDTH, IntervalScale, extent, interval_bar
from gateway.reports.model import Direction, Estimate, Margin, Verdict
from gateway.reports.section import Cell, Column, ReportSection, Row, Table, table
from gateway.verdict.items.models import ModelFinding, PairFinding, ScoreComparison

TONES: dict[Verdict, str] = {"ship": "good", "reject": "bad", "hold": "open"}
BADGES: dict[Verdict, str] = {"ship": "✓ Ship", "reject": "✗ Reject", "hold": "… Hold"}
LIMITS = (
    "Each interval is for one look at a number of items that was fixed beforehand. Adding items until it decides makes "
    "a wrong verdict more likely than stated; an experiment on live traffic may be checked at any time.",
    "The result is about these items, as these scores judge them. Whether they are like your traffic, and whether the "
    "score sees what people see, is not tested here.",
    "Items count as independent unless a column of clusters says which belong together.",
)
_DRAWN = 41  # characters of an interval on a terminal


def sections_of(found: ScoreComparison) -> list[ReportSection]:
    return [
        ReportSection(
            "differences",
            "The differences",
            guide="Later file minus earlier file; positive is better for the later one. The shaded area is the margin.",
            rows=_differences(found),
            items=tuple(sentence for pair in found.pairs for sentence in more_items(found, pair)),
        ),
        ReportSection(
            "models",
            "The models",
            guide="Each model on its own: overlapping intervals do not mean that two models are alike.",
            rows=_models(found),
        ),
        ReportSection(
            "runs",
            "Runs of one item",
            guide="How much of the variance of the scores is between items, and how much from one run to the next.",
            rows=_runs(found),
            items=tuple(_runs_sentences(found)),
        ),
        ReportSection("notes", "What was compared", items=found.notes),
        ReportSection("limits", "What this does not show", items=LIMITS),
    ]


def _differences(found: ScoreComparison) -> Table:
    differences = [pair.comparison.difference for pair in found.pairs]
    widest = max(extent(differences, None), 1.6 * found.terms.margin)
    scale = IntervalScale(widest, found.terms.margin, FOREST_WIDTH)
    columns = (
        Column("Models", "text"),
        Column("Control"),
        Column("Candidate"),
        Column("Difference", notes=False),
        Column("Interval"),
        Column("Better, alike, worse"),
        Column("Verdict", "text"),
        Column("On its scale", "forest", on="page"),
        Column(f"−{scale.extent:.2g} … +{scale.extent:.2g}", "text", on="terminal"),
    )
    rows = [Row(Cell(f"{pair.control} → {pair.candidate}"), tuple(_cells(pair, scale))) for pair in found.pairs]
    return table("The differences", columns, [("", rows)])


def _cells(pair: PairFinding, scale: IntervalScale) -> Iterator[Cell]:
    c, tone = pair.comparison, TONES[pair.verdict]
    places = say.digits_of(c.difference, margin=c.margin)
    yield Cell(say.number(c.a.value, places))
    yield Cell(say.number(c.b.value, places))
    yield Cell(say.number(c.difference.value, places, signed=True), c.method)
    yield Cell(say.interval(c.difference, places))
    yield Cell("/".join(map(say.count, pair.counts)))
    yield Cell(pair.verdict, tone=tone)
    yield Cell(drawing=interval_bar(c.difference, scale, tone))
    yield Cell(drawn(c.difference, scale))


def drawn(e: Estimate, scale: IntervalScale) -> str:
    """An interval in characters: │ at zero, ╎ at -margin, ● at the value."""
    if e.value is None:
        return ""
    signs = [" "] * _DRAWN

    def at(value: float) -> int:
        inside = min(max(value, -scale.extent), scale.extent)
        return round((inside / scale.extent + 1) / 2 * (_DRAWN - 1))

    if e.low is not None and e.high is not None:
        low, high = at(e.low), at(e.high)
        signs[low : high + 1] = "─" * (high - low + 1)
        signs[low] = "◂" if e.low < -scale.extent else "├"
        signs[high] = "▸" if e.high > scale.extent else "┤"
    for value, sign in ((0.0, "│"), (-(scale.margin or 0.0), "╎")):
        if signs[at(value)] in " ─":
            signs[at(value)] = sign
    signs[at(e.value)] = "●"
    return "".join(signs)


def _models(found: ScoreComparison) -> Table:
    columns = (Column("Model", "text"), Column("Items"), Column("Rows"), Column("Mean"), Column("Interval"))
    rows = []
    for model in found.models:
        places = say.digits_of(model.mean, margin=found.terms.margin)
        mean = say.number(model.mean.value, places), say.interval(model.mean, places, signed=False)
        rows.append(
            Row(Cell(model.name), tuple(map(Cell, (say.count(len(found.scores.items)), say.count(model.runs), *mean))))
        )
    return table("The models", columns, [("", rows)])


def _runs(found: ScoreComparison) -> Table | None:
    rows = [Row(Cell(model.name), tuple(_split(model))) for model in found.models if model.variance is not None]
    columns = (
        Column("Model", "text"),
        Column("Items with several runs"),
        Column("Between items"),
        Column("Run to run"),
    )
    return table("Runs of one item", columns, [("", rows)]) if rows else None


def _split(model: ModelFinding) -> Iterator[Cell]:
    split = model.variance
    if split is None:
        return
    total = split.between + split.within
    yield Cell(say.count(split.repeated))
    for part in (split.between, split.within):
        yield Cell(say.number(part, say.digits(total / 10)), say.share(part / total) if total else "")


def _runs_sentences(found: ScoreComparison) -> Iterator[str]:
    for pair in found.pairs:
        if pair.runs is not None:
            yield (
                f"{pair.control} → {pair.candidate}: about {pair.runs.share:.0%} of the variance of the "
                "difference is from run to "
                "run. Twice as many runs of each item would make the interval about "
                f"{pair.runs.twice_as_many_runs:.0%} "
                "narrower, twice as many items about 29%."
            )


def more_items(found: ScoreComparison, pair: PairFinding) -> Iterator[str]:
    """Margin that these items decide, and the number of further items that would decide the given one."""
    margin, head = found.terms.margin, f"{pair.control} → {pair.candidate}: " if len(found.pairs) > 1 else ""
    needed = pair.items_needed
    if needed is not None:
        clusters = max(1, math.ceil(needed * pair.clusters / len(found.scores.items)))
        of = f", in {say.counted(clusters, 'more cluster')}," if pair.clusters < len(found.scores.items) else ""
        yield (
            f"{head}about {say.counted(needed, 'more item')}{of} would decide a margin of {margin:g} if the "
            "difference stays as it is."
        )
    elif (
        pair.verdict == "hold"
        and pair.comparison.margin_found == "unclear"
        and pair.comparison.difference.low is not None
    ):
        yield (
            f"{head}no number of items that can be named decides a margin of {margin:g}: the difference lies at "
            "the margin."
        )
    if pair.decides is not None:
        yield (
            f"{head}{say.counted(len(found.scores.items), 'item')} like these show a candidate that is just "
            "as good to be within "
            f"{say.number(pair.decides, say.digits(pair.decides))} with a probability of 80%."
        )


def exit_sentences(found: ScoreComparison) -> list[str]:
    """The verdict of each comparison with the first file."""
    return [pair.sentence for pair in found.deciding]


class IntervalOutput(TypedDict):
    value: float | None
    low: float | None
    """Lower end of the interval; None if there is none."""
    high: float | None


class RunVarianceOutput(TypedDict):
    """The variance of a model's scores in two parts."""

    between: float
    """Standard deviation between items."""
    within: float
    """Standard deviation from run to run of one item."""
    items: int
    """Items with several runs."""


class ComparedModelOutput(TypedDict):
    name: str
    rows: int
    mean: IntervalOutput
    variance: RunVarianceOutput | None
    """The variance by its sources; None if no item has several runs."""


class ScorePairOutput(TypedDict):
    """A later file against an earlier one."""

    control: str
    candidate: str
    verdict: Verdict
    direction: Direction
    margin: Margin
    sentence: str
    reasons: list[str]
    difference: IntervalOutput
    """Positive is better for the candidate."""
    alpha: float
    """The error of this interval."""
    method: str
    clusters: int
    better: int
    """Items on which the candidate is better."""
    alike: int
    worse: int
    items_needed: int | None
    """Estimated number of further items that decide the margin; None if it is decided, or unknown."""
    margin_shown: float | None
    """The smallest margin that holds."""
    margin_decided: float | None
    """The smallest margin that as many items decide with a probability of 80 %."""
    run_share: float | None
    """The share of the variance of a difference that comes from run to run. None if no item has several runs."""


class ScoreComparisonOutput(TypedDict):
    """Scores of several models on the same items, from files."""

    verdict: Verdict
    """Verdict on every later file against the first."""
    sentence: str
    score: str
    id: str
    cluster: str | None
    guessed: list[str]
    """The columns that were guessed: id, score."""
    items: int
    clusters: int
    range: list[float] | None
    """The lowest and the highest possible score. None if unknown."""
    margin: float
    alpha: float
    better: Literal["higher", "lower"]
    models: list[ComparedModelOutput]
    comparisons: list[ScorePairOutput]
    notes: list[str]
    cautions: list[str]
    limits: list[str]
    version: str


def to_dict(found: ScoreComparison) -> ScoreComparisonOutput:
    """Converts a comparison to JSON members. The same files and options give the same document."""
    scores, terms = found.scores, found.terms
    return {
        "verdict": found.verdict,
        "sentence": " ".join(exit_sentences(found)),
        "score": scores.columns.score,
        "id": scores.columns.id,
        "cluster": scores.columns.cluster,
        "guessed": list(scores.columns.guessed),
        "items": len(scores.items),
        "clusters": len(set(scores.clusters)),
        "range": None if scores.bounds is None else list(scores.bounds),
        "margin": terms.margin,
        "alpha": terms.alpha,
        "better": "lower" if terms.lower_is_better else "higher",
        "models": [_model_dict(model) for model in found.models],
        "comparisons": [_pair_dict(pair) for pair in found.pairs],
        "notes": list(found.notes),
        "cautions": list(found.cautions),
        "limits": list(LIMITS),
        "version": __version__,
    }


def _estimate(e: Estimate) -> IntervalOutput:
    return {"value": e.value, "low": e.low, "high": e.high}


def _model_dict(model: ModelFinding) -> ComparedModelOutput:
    split = model.variance
    runs: RunVarianceOutput | None
    runs = None if split is None else {"between": split.between, "within": split.within, "items": split.repeated}
    return {"name": model.name, "rows": model.runs, "mean": _estimate(model.mean), "variance": runs}


def _pair_dict(pair: PairFinding) -> ScorePairOutput:
    better, alike, worse = pair.counts
    return {
        "control": pair.control,
        "candidate": pair.candidate,
        "verdict": pair.verdict,
        "direction": pair.comparison.direction_found,
        "margin": pair.comparison.margin_found,
        "sentence": pair.sentence,
        "reasons": list(pair.reasons),
        "difference": _estimate(pair.comparison.difference),
        "alpha": pair.alpha,
        "method": pair.comparison.method,
        "clusters": pair.clusters,
        "better": better,
        "alike": alike,
        "worse": worse,
        "items_needed": pair.items_needed,
        "margin_shown": pair.holds,
        "margin_decided": pair.decides,
        "run_share": None if pair.runs is None else pair.runs.share,
    }


def to_terminal(found: ScoreComparison) -> Any:
    """A rich renderable."""
    from rich.console import Group

    from gateway.reports.terminal import rendered, safe_text

    styles = {"ship": "bold green", "reject": "bold red", "hold": "bold yellow"}
    sentences = [safe_text(pair.sentence, styles[pair.verdict]) for pair in found.deciding]
    cautions = [safe_text(f"Caution: {caution}", "yellow") for caution in found.cautions]
    return Group(*sentences, *cautions, *rendered(sections_of(found)))


def to_html(found: ScoreComparison) -> str:
    from gateway.reports.html import render

    return render(
        "compare.html.jinja",
        title=f"{', '.join(found.scores.names)}: {found.verdict}",
        tone=TONES[found.verdict],
        badge=BADGES[found.verdict],
        about=_about(found),
        sentences=exit_sentences(found),
        cautions=found.cautions,
        sections=sections_of(found),
        versions=f"gateway {__version__}",
    )


def to_markdown(found: ScoreComparison) -> str:
    """A comment for a pull request: the sentence, one table, the decisions that more items would allow, and the rest
    folded."""
    lines = [f"**{BADGES[found.verdict]}**", ""]
    for sentence in exit_sentences(found):
        lines += [_escaped(sentence), ""]
    lines += [f"> **Caution:** {_escaped(caution)}" for caution in found.cautions]
    for section in sections_of(found)[:3]:
        lines += _markdown_section(section)
    rest = [section for section in sections_of(found)[3:] if section]
    lines += ["<details><summary>What was compared, and what this does not show</summary>", ""]
    lines += [f"- {_escaped(item)}" for section in rest for item in section.items]
    lines += [
        "",
        "</details>",
        "",
        f"<sub>gateway {__version__}, margin {found.terms.margin:g}, alpha {found.terms.alpha:g}</sub>",
    ]
    return "\n".join(lines)


def _about(found: ScoreComparison) -> str:
    items = say.counted(len(found.scores.items), "item")
    return f"{found.scores.columns.score} on {items}, margin {found.terms.margin:g}"


def _markdown_section(section: ReportSection) -> list[str]:
    if not section:
        return []
    lines = [""]
    if section.rows:
        shown = section.rows.of_page
        kept = [i for i, column in enumerate(shown.columns) if column.kind != "forest"]
        lines += _table_lines(
            [shown.columns[i].title for i in kept], [column.kind for column in (shown.columns[i] for i in kept)]
        )
        for row in shown.rows:
            cells = (row.name, *row.cells)
            lines.append(_row([cells[i].text for i in kept]))
        lines.append("")
    return [*lines, *(f"- {_escaped(item)}" for item in section.items)]


def _table_lines(titles: Sequence[str], kinds: Sequence[str]) -> list[str]:
    return [_row(titles), f"|{'|'.join('---' if kind == 'text' else '--:' for kind in kinds)}|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#@!])")


def _escaped(text: str) -> str:
    """Text without meaning in Markdown or HTML: names come from files. A mention of a person does not notify
    anybody."""
    return (
        _SPECIAL.sub(r"\\\1", plain(text).replace("\n", " "))
        .replace("\\@", "@\u200b")
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
    )
