"""`gateway guards` on the terminal and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from rich.console import Group, RenderableType

from gateway.core.guards import GuardAction
from gateway.features.guards.evidence import GuardEvidence, LabelledShare
from gateway.features.guards.hourly.usual_range import drift_sentence
from gateway.features.guards.ramp.commands import ComparisonOutput, GuardRampOutput
from gateway.features.guards.rows import GuardCost
from gateway.reports import number_format as say
from gateway.reports.section import Cell, Column, ReportSection, Row, Table, table
from gateway.reports.terminal import rendered
from gateway.statistics.detection import ShareEstimate

_MOST_KEYS = 10
_DOES: dict[GuardAction | None, str] = {
    "block": "blocks",
    "redact": "redacts",
    "flag": "flags",
    "observe": "observes; it would block",
    None: "would block",
}


class GuardsOutput(TypedDict):
    """The guards' decisions on recorded calls, and their mistakes."""

    since: float
    """Start of the time that was looked at, Unix seconds."""
    guards: list[GuardEvidence]
    costs: list[GuardCost]
    """Calls of models that guards made through a gateway, and what they cost."""


def to_dict(since: float, found: Sequence[GuardEvidence], costs: Sequence[GuardCost] = ()) -> dict[str, Any]:
    return {"since": since, "guards": [asdict(each) for each in found], "costs": [asdict(cost) for cost in costs]}


def to_terminal(found: Sequence[GuardEvidence], costs: Sequence[GuardCost] = (), *, whole: bool) -> RenderableType:
    """whole: also by key, and what there is to know about labels."""
    return Group(*rendered(sections(found, costs, whole=whole)))


def sections(
    found: Sequence[GuardEvidence], costs: Sequence[GuardCost] = (), *, whole: bool
) -> Iterator[ReportSection]:
    items = (*_sentences(found), *map(cost_sentence, costs))
    yield ReportSection("guards", "Guards", rows=_table(found), items=items)
    for each in found if whole else ():
        yield ReportSection("keys", f"Calls that {each.guard} objects to, by key", rows=_keys(each), items=_more(each))
        yield ReportSection("labels", "Labels", items=tuple(notes(each)))


def cost_sentence(cost: GuardCost) -> str:
    """ "guards asked: 412 calls of models, 28 840 tokens, $0.0029"."""
    usd = "no price" if cost.usd is None else say.dollars(cost.usd)
    return f"{cost.scorer}: {say.counted(cost.calls, 'call')} of models, {say.counted(cost.tokens, 'token')}, {usd}"


def _sentences(found: Sequence[GuardEvidence]) -> Iterator[str]:
    for each in found:
        yield f"{each.guard}: {sentence(each)}"
        if each.drift is not None and each.drift.alarm:
            yield f"{each.guard} has changed since {say.when(each.drift.since)}: {drift_sentence(each.drift)}"


def sentence(of: GuardEvidence) -> str:
    """ "blocks 1.2 % of calls; of those 31 of 40 labelled were right: 62 to 88 %"."""
    if of.hit is None:
        return "it has judged no recorded call in this time"
    begins = f"{_DOES[of.action]} {say.share(of.hit.share)} of calls"
    right = of.precision
    if right is None:
        return f"{begins}; none of those is labelled"
    return f"{begins}; of those {right.right} of {right.labelled} labelled were right: {_between(right)}"


def _between(of: ShareEstimate | LabelledShare) -> str:
    """ "62 to 88 %", with a decimal where both ends would read the same, or leave out the share as it is written."""
    low, high = round(100 * of.low), round(100 * of.high)
    places = 0 if low < high and low <= round(100 * of.share, 1) <= high else 1
    return f"{say.number(100 * of.low, places)} to {say.number(100 * of.high, places)}{say.NARROW}%"


def _share_cell(of: ShareEstimate | LabelledShare | None, unknown: str = "") -> Cell:
    if of is None:
        return Cell(say.NONE, unknown)
    return Cell(say.share(of.share), f"{say.number(100 * of.low, 1)} … {say.number(100 * of.high, 1)}")


def _table(found: Sequence[GuardEvidence]) -> Table:
    columns = (
        Column("Guard", "text"),
        Column("On", "text"),
        Column("Action", "text"),
        Column("Calls"),
        Column("Hits"),
        Column("Nearly"),
        Column("Failed"),
        Column("Precision"),
        Column("Recall"),
    )
    rows = [
        Row(
            Cell(each.guard),
            (
                Cell(each.on),
                Cell(each.action or say.NONE),
                Cell(say.count(each.calls)),
                _share_cell(each.hit),
                _share_cell(each.near),
                _share_cell(each.failed),
                _share_cell(each.precision),
                _share_cell(each.recall),
            ),
        )
        for each in found
    ]
    return table("Guards, with intervals of 95 %", columns, [("", rows)])


def _keys(of: GuardEvidence) -> Table:
    columns = (Column("Key", "text"), Column("Calls"), Column("Hits"), Column("Share"))
    rows = [
        Row(Cell(k.key), (Cell(say.count(k.calls)), Cell(say.count(k.hits)), _share_cell(k.share)))
        for k in of.keys[:_MOST_KEYS]
    ]
    return table("By key, most hits first", columns, [("", rows)])


def _more(of: GuardEvidence) -> tuple[str, ...]:
    more = len(of.keys) - _MOST_KEYS
    return (f"{say.counted(more, 'more key')} with fewer hits; --json has all",) if more > 0 else ()


def notes(of: GuardEvidence) -> Iterator[str]:
    yield f"{say.counted(of.recorded, 'recorded call')} since {say.when(of.since)}, config {of.config_hash or say.NONE}"
    if of.other_configs:
        yield f"{say.counted(of.other_configs, 'decision')} with an earlier config left out"
    if of.recall is not None:
        found = of.recall
        yield (
            f"finds {say.share(found.share)} of what it should ({_between(found)}); {found.right} of "
            f"{say.counted(found.labelled, 'labelled call')} that should have a hit have one"
        )
    elif of.recall_unknown is not None:
        yield f"recall is unknown: {of.recall_unknown}"
    if of.few_blocks:
        yield "intervals take calls as independent over time: fewer than ten quarters of an hour have calls"
    if of.unsampled:
        strata = ", ".join(of.unsampled)
        yield f"no call was drawn of the strata {strata}: shares and recall do not cover their calls without a hit"
    if of.missed is not None:
        labelled = say.counted(of.missed.labelled, "labelled call")
        yield f"of {labelled} without a hit, {of.missed.right} should have had one"
    yield f"to label more: gateway label next --guard {of.guard}"


def ramp_line(of: GuardRampOutput) -> str:
    """ "injection: block for 5 % of the units, flag for the others; step 1 of 3, paused"."""
    step = f"; step {of['step'] + 1} of {len(of['steps'])}" if of["state"] == "ramp" else ""
    state = {"rolled_back": "; rolled back", "stopped": "; stopped", "promoted": "; promoted"}.get(
        of["state"] or "", ""
    )
    first = f"; begins its ramp to {of['to']}" if of["state"] == "shadow" else ""
    return f"{of['guard']}: {_actions(of)}{first}{step}{state}" + ", paused" * of["paused"]


def _actions(of: GuardRampOutput) -> str:
    if of["share"] >= 1.0:
        return f"{of['action']} for every unit"
    return f"{of['action']} for {_percent(of['share'])} of the units, {of['otherwise']} for the others"


def ramp_lines(of: GuardRampOutput) -> Iterator[str]:
    """A guard's state, and what its next step waits for."""
    yield ramp_line(of)
    if of["state"] is None:
        yield f"  no ramp has begun: gateway guard promote {of['guard']}"
        return
    yield f"  since     {say.when(of['since'])} by {of['by']}: {of['reason']}"
    rate = of["block_rate"]
    if rate is not None:
        yield (
            f"  hits      {say.share(rate['rate'])} of calls, {_ends(rate['low'], rate['high'])}; at most "
            f"{_percent(rate['max'])} ({say.counted(rate['units'], 'unit')})"
        )
    yield from (f"  {line}" for line in map(_comparison_line, of["compared"]))
    for i, why in enumerate(of["waits_for"]):
        yield f"  {'also' if i else 'waits':<10}{why}"
    if of["state"] == "promoted" and of["configured"] != of["to"]:
        yield f"  next      write `action: {of['to']}` into gateway.yaml, so that it holds without the stream server"


def _percent(share: float) -> str:
    """A share that somebody has chosen, as they wrote it."""
    return f"{100 * share:.4g}{say.NARROW}%"


def _ends(low: float, high: float) -> str:
    return f"{say.number(100 * low, 1)} to {say.number(100 * high, 1)}{say.NARROW}%"


def _comparison_line(of: ComparisonOutput) -> str:
    name = {"thumbs_down": "disliked", "retries": "retried"}.get(of["metric"], of["metric"])
    others, acted = of["units"]
    units = f"margin {_percent(of['margin'])}; {acted} units acted on, {others} others"
    if of["difference"] is None or of["low"] is None or of["high"] is None:
        return f"{name:<10}too few units for an interval ({units})"
    point, low, high = (
        say.number(-100 * (value or 0.0), 1, signed=True) for value in (of["difference"], of["high"], of["low"])
    )
    more = f"{point}{say.NARROW}points, {low} to {high}"
    return f"{name:<10}{more} ({units})"
