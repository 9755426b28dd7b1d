"""The reports of a replay: one for each candidate, against the first target. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gateway import __version__
from gateway.core.exchange import RUN
from gateway.core.plan import Guardrail
from gateway.features.replay.results.sheet import COST, FAILED, OUTPUT, SECONDS, ScoreSheet, summarize
from gateway.reports.model import Comparison, Estimate, ExamplePair, GateResult, IntervalTrail, Report, State, Wins
from gateway.verdict.decision import Decision, SwapDescription, cheaper, decide
from gateway.verdict.items.pairs import (
    ComparisonTerms,
    Floats,
    ItemMetric,
    Kind,
    PairedValues,
    comparison,
    mean_estimate,
    paired,
    sparse_interval,
)

MIN_CLUSTERS = 20  # fewer independent items give no verdict
_REASON = 300  # characters of an exception that are shown
FEW_LOST, MANY_LOST = 0.01, 0.05  # shares of answers without a primary score, because the scorer failed
EXAMPLES = 6
_MEASURES = {
    FAILED.name: ("failed", 1.0),
    SECONDS.name: ("seconds", 1.0),
    OUTPUT.name: ("output_tokens", 1.0),
    COST.name: ("cost_usd", 1000.0),
}
_UNINFORMATIVE = (
    "every answer of both targets has the worst value of {}, which does not tell them apart; choose another --primary"
)
REUSED = (
    "Answers of the control are those of the recorded calls, where there is one: they were given under live traffic "
    "and at another time than the candidate's, and without failed calls. Compare quality, not times or errors."
)
LIMITS = (
    "A replay sends each row on its own: the effect of an answer on the rest of a conversation is not measured.",
    "The result is about these rows. Rows of recorded traffic are as sampled, and are not weighted.",
    "Times are those of this replay at its own rate, and not those of live traffic.",
)


NOT_VISIBLE = (
    "loops",
    "recovery from mistakes of its own",
    "whether the task is finished",
    "calls, tokens and minutes of a whole run",
)
"""The properties of an agent that a replay of recorded turns cannot show."""
TURNS = (
    "Rows are turns of recorded runs. Each was asked with the history that was recorded, results of tools included. "
    "No tool was called: what a target would have done after its own answers is not measured. A loop cannot develop, "
    f"so that a target which loops may look like one that does not. Not visible: {'; '.join(NOT_VISIBLE)}. "
    "A split with `unit: run` measures these."
)


@dataclass(frozen=True, slots=True)
class ReportScope:
    """The subject of the reports of a replay."""

    name: str
    design: str
    dataset: str
    dataset_hash: str
    rows: int
    """The number of rows that are asked."""
    of: int
    """The number of rows of the dataset."""
    repeats: int
    metrics: tuple[ItemMetric, ...]
    """The metrics of the scorers, in order."""
    primary: str | None
    """One of the metrics. None if there is none to test."""
    margin: float
    alpha: float
    guardrails: tuple[Guardrail, ...]
    versions: tuple[tuple[str, str], ...] = ()
    """(scorer, version)."""
    settings: tuple[tuple[str, str], ...] = ()
    command: str = ""
    reused: bool = False
    """Answers of the control are those of recorded traffic."""
    unit: str = "rows"
    """The items that are compared: rows or runs."""
    created: float = 0.0
    first: float | None = None
    last: float | None = None

    @property
    def planned(self) -> int:
        """The number of requests to each target."""
        return self.rows * self.repeats

    @property
    def part(self) -> str:
        """ "200", or "the first 50 of 200"."""
        return str(self.rows) if self.rows == self.of else f"the first {self.rows} of {self.of}"


@dataclass(frozen=True, slots=True)
class ReplayAnswers:
    questions: Mapping[int, str] = field(default_factory=dict)
    answers: Mapping[tuple[int, str], str] = field(default_factory=dict)
    """The answers by (item, target)."""
    alike: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Number of texts equal to the control's, and of texts that both gave, by candidate."""


@dataclass(frozen=True, slots=True)
class _CandidateReport:
    """One candidate against the control. alpha: the error of each of its comparisons."""

    sheet: ScoreSheet
    question: ReportScope
    control: str
    candidate: str
    alpha: float

    @property
    def complete(self) -> bool:
        return all(self.sheet.answers(t) >= self.question.planned for t in (self.control, self.candidate))

    def pairs(self, metric: ItemMetric) -> PairedValues:
        return paired(metric, self.of(metric, self.control), self.of(metric, self.candidate), self.sheet.clusters)

    def of(self, metric: ItemMetric, target: str) -> Floats:
        if metric.name in _MEASURES:
            name, factor = _MEASURES[metric.name]
            return self.sheet.measured(name, target) * factor
        return self.sheet.values(metric, target, (self.control, self.candidate))


def reports(sheet: ScoreSheet, question: ReportScope, texts: ReplayAnswers | None = None) -> tuple[Report, ...]:
    """The candidates share alpha (Bonferroni), so that a larger number of them does not make a `ship` by chance more
    likely."""
    control, *candidates = sheet.targets
    alpha = question.alpha / max(1, len(candidates))
    return tuple(
        _report(_CandidateReport(sheet, question, control, c, alpha), texts or ReplayAnswers()) for c in candidates
    )


def examples_of(sheet: ScoreSheet, question: ReportScope) -> dict[str, list[int]]:
    """The numbers of the items on which each candidate differs most from the control in the primary metric."""
    metric = next((m for m in question.metrics if m.name == question.primary), None)
    if metric is None:
        return {}
    control, *candidates = sheet.targets
    found = {}
    for candidate in candidates:
        versus = _CandidateReport(sheet, question, control, candidate, question.alpha)
        apart = np.abs(versus.of(metric, candidate) - versus.of(metric, control))
        order = np.argsort(-np.nan_to_num(apart), kind="stable")[:EXAMPLES]
        found[candidate] = [int(i) + 1 for i in order if np.isfinite(apart[i]) and apart[i] > 0]
    return found


def _report(versus: _CandidateReport, texts: ReplayAnswers) -> Report:
    question, sheet = versus.question, versus.sheet
    compared = {metric.name: _compared(versus, metric) for metric in (*question.metrics, FAILED, SECONDS, OUTPUT, COST)}
    # A guardrail without a number is shown, because it prevents a verdict.
    shown = {name: c for name, (c, _) in compared.items() if c.pairs or c.role == "guardrail"}
    primary = shown.get(question.primary or "")
    guardrails = tuple(c for c in shown.values() if c.role == "guardrail")
    gates = _gates(versus, primary)
    found = _decided(versus, primary, guardrails, gates, cheaper(shown.get(COST.name)))
    alone = [summarize(sheet, t, question.metrics, versus.alpha) for t in (versus.control, versus.candidate)]
    return Report(
        experiment=question.name,
        plan=question.design,
        candidate=versus.candidate,
        verdict=found.verdict,
        direction=primary.direction_found if primary else "unclear",
        margin=primary.margin_found if primary else "unclear",
        sentence=found.sentence,
        reasons=found.reasons,
        primary=primary,
        guardrails=guardrails,
        metrics=tuple(c for c in shown.values() if c.role == "other"),
        gates=gates,
        arms=tuple(each.arm() for each in alone),
        pairs=primary.pairs if primary else 0,
        withheld=_withheld(versus),
        trails=tuple(t for _, t in compared.values() if t.points),
        wins=_wins(versus, primary),
        latency=tuple(each.latency() for each in alone),
        strata=(),
        examples=_examples(versus, texts),
        limits=_limits(versus),
        design=_design(versus),
        versions=_versions(question),
        first=question.first,
        last=question.last,
        created=question.created,
        command=question.command,
        cautions=tuple(_identical(versus, texts)),
    )


def _identical(versus: _CandidateReport, texts: ReplayAnswers) -> Iterator[str]:
    """A caution where two targets never answered differently: they may be the same."""
    alike, both = texts.alike.get(versus.candidate, (0, 0))
    if both and alike == both:
        yield (
            f"All {both} answers of {versus.candidate} equal those of {versus.control} word for word: check that what "
            "differs between the two reaches the upstream."
        )


def _decided(
    versus: _CandidateReport,
    primary: Comparison | None,
    guardrails: tuple[Comparison, ...],
    gates: tuple[GateResult, ...],
    cheaper: str | None,
) -> Decision:
    """The decision as for an experiment, with a sentence that begins with the rows it is about."""
    question, claims = versus.question, () if cheaper is None else (cheaper,)
    swap = SwapDescription(question.dataset, versus.control, versus.candidate)
    decision = decide(swap, primary, guardrails, gates, claims, early_reject=False)
    if primary is None and question.primary is not None:
        decision = _without_values(versus, question.primary)
    _, _, finding = decision.sentence.partition(f" from {versus.control} to {versus.candidate}: ")
    head = f"On {question.rows} {question.unit} of {question.dataset}, from {versus.control} to {versus.candidate}: "
    return replace(decision, sentence=head + finding)


def _without_values(versus: _CandidateReport, name: str) -> Decision:
    """Explains that no row has a value of the primary: the scorer failed, or it does not apply."""
    counts = Counter[str]()
    for target in (versus.control, versus.candidate):
        counts.update(versus.sheet.unscored.get((name, target), {}))
    failed = sum(n for status, n in counts.items() if status != "not_applicable")
    why = f"no row has a value of {name}"
    if failed:
        why += f", because the scorer {name} failed on {failed} answers"
        newest = versus.sheet.reasons.get(name, Counter[str]()).most_common(1)
        why += f", mostly with: {newest[0][0][:_REASON]}" if newest else ""
    elif counts:
        why += f": it does not apply to {counts['not_applicable']} answers"
    head = f"Switching {versus.question.dataset} from {versus.control} to {versus.candidate}: "
    return Decision("hold", f"{head}no verdict; {why}. Hold.", (why,))


def _compared(versus: _CandidateReport, metric: ItemMetric) -> tuple[Comparison, IntervalTrail]:
    margins = {g.metric: g.margin for g in versus.question.guardrails}
    role: Kind = "guardrail" if metric.name in margins else "other"
    role = "primary" if metric.name == versus.question.primary else role
    margin = versus.question.margin if role == "primary" else margins.get(metric.name)
    terms = ComparisonTerms(role, versus.alpha, margin, versus.complete)
    return comparison(metric, versus.pairs(metric), terms, _noise(versus, metric))


def _noise(versus: _CandidateReport, metric: ItemMetric) -> Estimate | None:
    """The noise floor: the control's second answer to each item against its first."""
    scored = versus.sheet.scores.get((metric.name, versus.control))
    if scored is None or scored.shape[1] < 2 or metric.preference:
        return None
    again = paired(metric, scored[:, 0], scored[:, 1], versus.sheet.clusters)
    if not again.n:
        return None
    few = sparse_interval(again, metric.span, versus.alpha) if metric.bounded else None
    mean = mean_estimate(again.better, again.clusters, versus.alpha)
    return mean if few is None else Estimate(mean.value, *few)


def _gates(versus: _CandidateReport, primary: Comparison | None) -> tuple[GateResult, ...]:
    sheet, planned = versus.sheet, versus.question.planned
    answered = min(sheet.answers(t) for t in (versus.control, versus.candidate))
    what = "requests to" if versus.question.unit == "rows" else "runs of"
    complete = f"{answered} of {planned} {what} each target have a result"
    clusters = int(primary.effective_n) if primary else 0
    few = f"{clusters} independent items have two scores; a verdict needs {MIN_CLUSTERS}"
    gates = (
        GateResult("whole", 1 if versus.complete else 0, complete, float(answered)),
        GateResult("items", 1 if clusters >= MIN_CLUSTERS else 0, few, float(clusters)),
        _scored_gate(versus),
    )
    if primary is None or not _uninformative(versus, primary):
        return gates
    return (*gates, GateResult("telling", 0, _UNINFORMATIVE.format(primary.metric)))


def _uninformative(versus: _CandidateReport, primary: Comparison) -> bool:
    """Whether both targets always have the worst value: equal, and neither acceptable."""
    worst = next(m.worst for m in versus.question.metrics if m.name == primary.metric)
    return worst is not None and primary.a.value == primary.b.value == worst


def _scored_gate(versus: _CandidateReport) -> GateResult:
    lost, target = max((_lost(versus, t), t) for t in (versus.control, versus.candidate))
    state: State = 1 if lost <= FEW_LOST else -1 if lost > MANY_LOST else 0
    name = versus.question.primary
    says = f"{lost:.1%} of the answers of {target} have no {name} score, because the scorer failed"
    says += _why(name or "", versus.sheet.unscored.get((name or "", target), {})) if lost else ""
    reasons = versus.sheet.reasons.get(name or "", Counter[str]()).most_common(1) if lost else []
    says += f"; mostly with: {reasons[0][0][:_REASON]}" if reasons else ""
    return GateResult("scored", state, says, lost)


def _why(scorer: str, unscored: Mapping[str, int]) -> str:
    """The failures by status, and the remedy for those that a longer deadline would avoid."""
    failed = {status: n for status, n in sorted(unscored.items()) if status != "not_applicable"}
    hint = f"; raise scorers.{scorer}.deadline_s" if failed.get("timeout") else ""
    counted = ", ".join(f"{n} {status}{'s' if n > 1 and status != 'budget' else ''}" for status, n in failed.items())
    return f" ({counted}{hint}; the same command asks again)"


def _lost(versus: _CandidateReport, target: str) -> float:
    unscored: Mapping[str, int] = versus.sheet.unscored.get((versus.question.primary or "", target), {})
    n = sum(n for status, n in unscored.items() if status != "not_applicable")
    return n / max(1, versus.sheet.asked(target))


def _withheld(versus: _CandidateReport) -> tuple[tuple[str, int], ...]:
    """The number of items without two primary scores, by reason."""
    sheet, name = versus.sheet, versus.question.primary
    both = [sheet.failed(t) for t in (versus.control, versus.candidate)]
    counts = {
        "not asked yet": int((~(np.isfinite(both[0]) & np.isfinite(both[1])).any(axis=1)).sum()),
        "both failed": int(((both[0] == 1.0).all(axis=1) & (both[1] == 1.0).all(axis=1)).sum()),
    }
    for target in (versus.control, versus.candidate):
        for status, n in sorted(sheet.unscored.get((name or "", target), {}).items()):
            counts[f"{target}: {status.replace('_', ' ')}"] = n
    return tuple((why, n) for why, n in counts.items() if n)


def _wins(versus: _CandidateReport, primary: Comparison | None) -> Wins | None:
    metric = next((m for m in versus.question.metrics if primary and m.name == primary.metric), None)
    if metric is None:
        return None
    pairs = versus.pairs(metric)
    sides = (pairs.better > 0, pairs.better == 0, pairs.better < 0)
    won, tied, lost = (int(side.sum()) for side in sides)
    return Wins(won, tied, lost, None, None, *(_share(versus, pairs, side.astype(np.float64)) for side in sides))


def _share(versus: _CandidateReport, pairs: PairedValues, side: Floats) -> Estimate | None:
    """The share of the items, with an interval for one look: at the end."""
    if not pairs.n:
        return None
    found = mean_estimate(side, pairs.clusters, versus.alpha, (0.0, 1.0))
    return found if versus.complete else Estimate(found.value)


def _examples(versus: _CandidateReport, texts: ReplayAnswers) -> tuple[ExamplePair, ...]:
    found = []
    for number in examples_of(versus.sheet, versus.question).get(versus.candidate, []):
        if number not in texts.questions:
            continue
        scores = tuple(
            (m.name, _at(versus.of(m, versus.control), number), _at(versus.of(m, versus.candidate), number))
            for m in versus.question.metrics
        )
        control, candidate = (texts.answers.get((number, t), "") for t in (versus.control, versus.candidate))
        row, why = f"row {number}", f"among the largest differences in {versus.question.primary}"
        found.append(ExamplePair(row, row, why, texts.questions[number], control, candidate, scores, None))
    return tuple(found)


def _at(values: Floats, number: int) -> float | None:
    value = float(values[number - 1])
    return value if np.isfinite(value) else None


def _limits(versus: _CandidateReport) -> tuple[str, ...]:
    others = [(t, versus.sheet.others[t]) for t in (versus.control, versus.candidate) if versus.sheet.others[t]]
    return (
        *LIMITS,
        *([REUSED] if versus.question.reused else []),
        *([TURNS] if any(cluster.startswith(RUN) for cluster in versus.sheet.clusters) else []),
        *(f"{n} answers of {t} came from another upstream or model than its first answer." for t, n in others),
    )


def _design(versus: _CandidateReport) -> tuple[tuple[str, str], ...]:
    question = versus.question
    return (
        ("kind", "replay"),
        ("dataset", f"{question.dataset} ({question.part} {question.unit}, sha256 {question.dataset_hash[:16]})"),
        ("control", versus.control),
        ("candidate", versus.candidate),
        ("repeats", str(question.repeats)),
        ("primary", f"{question.primary}, margin {question.margin:g}" if question.primary else "none"),
        ("guardrails", ", ".join(f"{g.metric} {g.margin:g}" for g in question.guardrails) or "none"),
        ("alpha", f"{versus.alpha:.4g}{f' (of {question.alpha:g}, shared)' if versus.alpha < question.alpha else ''}"),
        *question.settings,
    )


def _versions(question: ReportScope) -> tuple[tuple[str, str], ...]:
    return (("gateway", __version__), *question.versions)
