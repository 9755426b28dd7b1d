"""Groups of failures as sections for a terminal, a page and the console, as JSON and as an HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from rich.console import Group, RenderableType

from gateway import __version__
from gateway.features.groups.finding import ALPHA, CUT, FailureGroup, GroupsFound, Kind, find_groups
from gateway.features.groups.rows import CallChoice, scored_calls
from gateway.reports import number_format as say
from gateway.reports.model import Report
from gateway.reports.section import Cell, Column, ReportSection, Row, Table, table
from gateway.reports.terminal import rendered
from gateway.statistics.failure_groups import FEW_CLUSTERS, ClusteredRate
from gateway.store.query import Reading, reading

_KINDS = {"calls": "By features of the calls", "reasons": "By the reasons of their scores"}
_REASON_CHARACTERS = 160
GUIDE = (
    "Groups are found on half of the calls, and all figures are of the other half. A group is named if its calls fail "
    f"more often than all others; where nothing distinguishes calls, one is named in at most {ALPHA:.0%} of the cases. "
    "Intervals are of 95 %, for one look; calls of one conversation count as dependent."
)


def look(connection: Reading, choice: CallChoice, cut: float) -> GroupsFound:
    return find_groups(choice, list(scored_calls(connection, choice)), cut)


def experiment_sections(url: str, report: Report) -> list[ReportSection]:
    """The groups of failures of both arms by the scorer that decides; of an arm with enough failures."""
    if report.primary is None:
        return []
    found = []
    with reading(url) as connection:
        for arm in ("control", report.candidate):
            choice = CallChoice(report.primary.metric, 0.0, plan=(report.plan, arm))
            found.append((arm, look(connection, choice, CUT)))
    return [section_of(each, f"Failures of {arm} in groups") for arm, each in found if each.rate is not None]


def section_of(found: GroupsFound, title: str = "", *, examples: bool = True) -> ReportSection:
    """examples: name the newest failures of each group; a page that links to them needs no names."""
    title = title or f"{found.choice.scorer}: failures in groups"
    if found.rate is None:
        return ReportSection("groups", title, items=(f"Too few to say: {found.too_few}.",))
    overall = f"{say.share(found.rate.value)} of {say.counted(found.rate.n, 'call')} score less than {found.cut:g}"
    lead = f"{overall} ({_interval(found.rate)})."
    if not found.groups:
        return ReportSection("groups", title, lead=lead, items=("No kind of call is shown to fail more than others.",))
    return ReportSection("groups", title, lead=lead, guide=GUIDE, rows=_table(found), items=_notes(found, examples))


def _table(found: GroupsFound) -> Table:
    columns = (
        Column("Calls", "text"),
        Column("Share of the failures"),
        Column("Fail"),
        Column("Others fail"),
        Column("Since", "text"),
    )
    rows = [(title, [_row(found, g) for g in found.groups if g.kind == kind]) for kind, title in _KINDS.items()]
    return table("Groups of failing calls", columns, rows)


def _row(found: GroupsFound, group: FailureGroup) -> Row:
    of = group.estimate
    since = say.when(group.since) if group.since is not None else f"before {say.when(found.earliest)}"
    return Row(
        Cell(group.rule, tone="bad"),
        (
            Cell(say.share(of.share.value), note=_interval(of.share)),
            Cell(say.share(of.rate.value), note=_interval(of.rate)),
            Cell(say.share(of.beside.value), note=_interval(of.beside)),
            Cell(since),
        ),
    )


def _interval(of: ClusteredRate) -> str:
    return f"{say.share(of.low)} … {say.share(of.high)}"


def _notes(found: GroupsFound, examples: bool) -> tuple[str, ...]:
    few = [group for group in found.groups if group.estimate.rate.few]
    cautions = (
        f"{group.rule}: only {group.estimate.rate.clusters} independent conversations; with fewer than {FEW_CLUSTERS}, "
        "intervals use Student's quantiles and are wide."
        for group in few
    )
    return (*cautions, *(_example(group) for group in found.groups if examples))


def _example(group: FailureGroup) -> str:
    first, *others = group.examples
    reason = f" ({first.reason[:_REASON_CHARACTERS]})" if first.reason else ""
    also = f"; also {', '.join(call.id for call in others)}" if others else ""
    return f"{group.rule}: gateway samples --id {first.id}{reason}{also}"


def to_terminal(found: Sequence[GroupsFound]) -> RenderableType:
    return Group(*rendered([section_of(each) for each in found]))


def to_html(found: Sequence[GroupsFound]) -> str:
    from gateway.reports.html import render

    return render(
        "failure_groups.html.jinja",
        title="Failures in groups",
        sections=[section_of(each) for each in found],
        versions=f"gateway {__version__}",
    )


class FailureRateOutput(TypedDict):
    """A weighted rate with its interval, for one look."""

    value: float
    low: float
    high: float
    calls: int
    clusters: int
    few_clusters: bool
    """Whether there are so few clusters that the interval rests on its assumptions."""


class FailureExampleOutput(TypedDict):
    id: str
    reason: str
    value: float


class FailureGroupOutput(TypedDict):
    """Calls that fail more often than all others, with figures of the half on which the group was not found."""

    kind: Kind
    """calls: by what the calls are; reasons: by the reasons of their scores."""
    rule: str
    share: FailureRateOutput
    """The share of all calls that are in it."""
    rate: FailureRateOutput
    """The share of its calls that fail."""
    others: FailureRateOutput
    """The share of all other calls that fail."""
    since: float | None
    """Unix seconds since which they fail more often; None if there is no change in the calls that were looked at."""
    examples: list[FailureExampleOutput]


class ScorerGroupsOutput(TypedDict):
    """The groups of failures of one scorer."""

    scorer: str
    imported: bool
    """Whether the calls were imported; False if they were served."""
    cut: float
    """A score below it, rescaled to [0, 1], is a failure."""
    calls: int
    failed: int
    too_few: str
    """Reason why no groups were looked for; "" if they were."""
    rate: FailureRateOutput | None
    """Share of failures in the second half."""
    groups: list[FailureGroupOutput]


def to_dict(found: Sequence[GroupsFound]) -> list[ScorerGroupsOutput]:
    return [_scorer(each) for each in found]


def _scorer(found: GroupsFound) -> ScorerGroupsOutput:
    return {
        "scorer": found.choice.scorer,
        "imported": found.choice.imported,
        "cut": found.cut,
        "calls": found.calls,
        "failed": found.failed,
        "too_few": found.too_few,
        "rate": None if found.rate is None else _rate(found.rate),
        "groups": [
            {
                "kind": group.kind,
                "rule": group.rule,
                "share": _rate(group.estimate.share),
                "rate": _rate(group.estimate.rate),
                "others": _rate(group.estimate.beside),
                "since": group.since,
                "examples": [{"id": call.id, "reason": call.reason, "value": call.value} for call in group.examples],
            }
            for group in found.groups
        ],
    }


def _rate(of: ClusteredRate) -> FailureRateOutput:
    return {
        "value": of.value,
        "low": of.low,
        "high": of.high,
        "calls": of.n,
        "clusters": of.clusters,
        "few_clusters": of.few,
    }
