"""Presentation of a report, the same on the terminal and on the page: the order of metrics, the arms that are
compared, and the names of verdicts, findings and gates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.core.decision_schema import INELIGIBLE
from gateway.core.plan import AGAIN, CONTROL, REPEAT
from gateway.reports.charts import IntervalScale, extent, interval_text
from gateway.reports.model import (
    Arm,
    ArmLatency,
    BestOfK,
    Comparison,
    CorrectedBasis,
    DeclaredSegment,
    Direction,
    Estimate,
    Family,
    KeptTraffic,
    Margin,
    NextStep,
    OpenCondition,
    RankedCandidate,
    Report,
    SegmentDifference,
    SegmentReport,
    SegmentState,
    State,
    WeakSpot,
)
from gateway.reports.number_format import (
    NONE,
    count,
    counted,
    digits_of,
    dollars,
    interval,
    number,
    share,
    span,
    when,
)
from gateway.statistics.dependence import FEWEST_UNITS
from gateway.verdict.decision import SHIPS
from gateway.verdict.sentence import (
    SIGNS,
    Outcome,
    VerdictSentence,
    badge_of,
    best_about,
    left,
    loser_of,
    verdict_sentence,
)
from gateway.verdict.traffic_facts import UNITS, dependence_line, these_units

ArmColor = Literal["control", "candidate", "repeat", "other"]
FEW_ADJUSTED = 0.7  # share of the pairs that could be adjusted, below which the reader is told why
STATES: dict[State, str] = {1: "green", 0: "unknown", -1: "red"}
TONES: dict[State, str] = {1: "good", 0: "open", -1: "bad"}
"""Names of the colours of states on pages."""
COST = "cost_per_1k"
IN_SEGMENT = "Losses where "
"""Begins the group of an example of a segment."""
_DIRECTION_STATES: dict[Direction, State] = {"better": 1, "unclear": 0, "worse": -1}
_MARGIN_STATES: dict[Margin, State] = {"equivalent": 1, "non_inferior": 1, "unclear": 0, "inferior": -1}


def titled(c: Comparison) -> str:
    return f"{c.metric}, {c.unit}" if c.unit else c.metric


def measured(c: Comparison) -> str:
    """The title of a metric whose values are shown as measured: "refusal, less is better"."""
    return titled(c) if c.better == "higher" else f"{titled(c)}, less is better"


def outcome_of(report: Report) -> Outcome:
    """Collects the facts of the report's sentence."""
    both = arms_compared(report)
    control, candidate = (arm.target for arm in both) if both else ("the control", report.candidate)
    kept = report.declared.kept if report.declared else None
    excepted = kept.excepted if kept else ()
    return Outcome(
        control=control,
        candidate=candidate,
        verdict=report.verdict,
        primary=report.primary,
        guardrails=report.guardrails,
        gates=report.gates,
        pairs=report.pairs,
        progress=report.progress,
        ramp=report.ramp,
        best=best_about(report.best, report.candidate),
        excepted=excepted,
        moved=kept.metrics[0] if kept else None,
        loser=loser_of(report.verdict, report.primary, lambda: report.segments, excepted),
        these=these_units(report.traffic),
    )


def sentence_of(report: Report) -> VerdictSentence:
    """The report's sentence, with its badge, what to do, and the settings."""
    return verdict_sentence(outcome_of(report))


def badge(report: Report) -> tuple[str, State]:
    """(the words that a reader needs first, their colour): the ramp's state once there is one, else the verdict."""
    return badge_of(outcome_of(report))


RANKED: dict[str, tuple[str, State]] = {"best": ("Best", 1), "compared": ("Compared", 0), "dropped": ("Dropped", -1)}
"""The state of one of several candidates that are compared with each other."""


def ranked_badge(best: BestOfK, candidate: str) -> tuple[str, State]:
    """(the state of one of the candidates, its colour)."""
    word, state = RANKED[next(row.state for row in best.candidates if row.candidate == candidate)]
    return f"{SIGNS[state]} {word}", state


def best_lines(best: BestOfK | None) -> list[tuple[str, State]]:
    """A line for each of several candidates that are compared with each other, the best first, with its state."""
    return [(_ranked_line(row, best.margin), RANKED[row.state][1]) for row in best.candidates] if best else []


def _ranked_line(row: RankedCandidate, margin: float) -> str:
    sign = SIGNS[RANKED[row.state][1]]
    places = digits_of(row.difference, margin=margin)
    difference = f"{number(row.difference.value, places, signed=True)} ({interval(row.difference, places)})"
    front = ", on the front (no other is cheaper and as good)" if row.on_front else ""
    cost = "" if row.cost_per_1k is None else f", {dollars(row.cost_per_1k.value)} per 1k{front}"
    paid = counted(row.paid_calls or 0, "paid call")
    return f"{sign} {row.candidate} {row.state}: {difference}{cost}, {paid}; {row.says}"


def headline(report: Report) -> str:
    """The report in a sentence: see verdict/sentence.py."""
    return sentence_of(report).text


def figures(report: Report) -> list[tuple[str, str]]:
    """(name, figure): the three numbers of the first screen: the difference, its interval, and the remaining work."""
    c, p = report.primary, report.progress
    if c is None or c.difference.value is None:
        return [("Pairs", count(report.pairs))]
    places = digits_of(c.difference, margin=c.margin)
    found = [
        (f"Difference on {titled(c)} (+ is better)", number(c.difference.value, places, signed=True)),
        (f"Interval; margin {c.margin:g}" if c.margin else "Interval", interval(c.difference, places)),
    ]
    if p is not None and p.open:
        return [*found, ("Still to go", left(p, c.counts))]
    return [*found, (f"{c.counts.capitalize()}s", count(report.pairs))]


def condition_line(each: OpenCondition, word: str = "pair") -> str:
    """ "gate aa: −0.084 … +0.059 over 554 pairs, margin 0.05; about 2 900 pairs more (14 500 requests, 3 days)"."""
    if each.hours is not None:
        return f"gate {each.name}: {each.estimate.value or 0.0:.2g} hours so far; {span(each.hours / 24.0)} more"
    if each.kind == "gate" and each.name == UNITS and not each.failed:
        return f"gate {UNITS}: {each.estimate.value or 0.0:.2g} effective units so far; {FEWEST_UNITS:g} are needed"
    places = digits_of(each.estimate, margin=each.margin)
    bounds = interval(each.estimate, places)
    known = f"{bounds} over {counted(each.values, word)}" if bounds != NONE else counted(each.values, word)
    margin = f", margin {each.margin:g}" if each.margin else ""
    return f"{each.kind} {each.name}: {known}{margin}; {_more(each, word)}"


def _more(each: OpenCondition, word: str) -> str:
    if each.failed:
        return f"failed, and more {word}s do not change that" if each.kind == "gate" else "closed, and still undecided"
    if each.pairs is None:
        return "it is not known yet how many more it takes"
    parts = [counted(each.requests, "request")] if each.requests is not None and word not in ("unit", "run") else []
    parts += [span(each.days)] if each.days is not None else []
    return f"{'at most' if each.at_most else 'about'} {counted(each.pairs, word)} more" + (
        f" ({', '.join(parts)})" if parts else ""
    )


def step_line(step: NextStep) -> str:
    """ "repeat_control 0.25 → 1: about 700 requests, as a new plan from zero"."""
    new = ", as a new plan that starts from zero" if step.new_plan else ""
    return f"{step.setting} {step.now:.3g} → {step.to:.3g}: about {counted(step.requests, 'request')}{new}"


def share_interval(e: Estimate | None) -> str:
    """ ", 21 … 34 %"; "" without an interval."""
    if e is None or e.low is None or e.high is None:
        return ""
    return f", {max(0.0, e.low):.0%} … {min(1.0, e.high):.0%}"


def saving(c: Comparison | None) -> str:
    """Sentence on the saving by adjusting the primary; "" where it is not adjusted."""
    if c is None or c.saved is None:
        return ""
    if c.adjusted is None:
        return _split_saving(c, c.saved)
    few = _few_adjusted(c)
    if c.saved < 0.005:
        return f"Adjusting {c.metric} for what is known of a request before its pair is judged saves nothing here.{few}"
    plain = number(c.unadjusted, digits_of(c.difference, margin=c.margin), signed=True)
    return (
        f"Adjusting {c.metric} for what is known of a request before its pair is judged saves {c.saved:.0%} of the "
        f"pairs; the difference without it is {plain}.{few}"
    )


def _split_saving(c: Comparison, saved: float) -> str:
    plain = number(c.unadjusted, digits_of(c.difference, margin=c.margin), signed=True)
    return (
        f"Adjusting {c.metric} for what the client sent before its arm answered removes {max(0.0, saved):.0%} of the "
        f"variance; the difference without it is {plain}."
    )


def _few_adjusted(c: Comparison) -> str:
    """Explains why little is saved where many pairs have no other request to be compared with."""
    adjusted = c.adjusted or 0
    if adjusted >= FEW_ADJUSTED * c.pairs:
        return ""
    of = f"{counted(adjusted, 'pair')} of {count(c.pairs)}"
    return f" Only {of} could be adjusted: record more of the requests that are not shadowed (sampling.rate)."


def sharing(family: Family | None) -> str:
    """Sentence on how several candidates share the error; "" for one candidate."""
    if family is None:
        return ""
    how = "by Holm's procedure" if family.sharing == "holm" else "evenly"
    how = "evenly, and so does each pair of them" if family.sharing == "best" else how
    verdicts = ", ".join(f"{arm} {verdict}" for arm, verdict in family.verdicts)
    return (
        f"{len(family.verdicts)} candidates share an error of {family.alpha:g} {how}: {family.ship:.3g} to ship and "
        f"{family.reject:.3g} to reject this one ({verdicts})."
    )


def segment_lines(report: Report, most: int = 3) -> list[str]:
    """Segments in which the candidate is shown to be worse, or better: "exploratory: worse where language = de: …"."""
    shown = [each for each in report.segments if each.found != "unclear"]
    lines = [f"exploratory: {each.found} where {segment_line(each)}" for each in shown[:most]]
    return lines + ([f"exploratory: {len(shown) - most} more segments differ"] if len(shown) > most else [])


SEGMENT_STATES: dict[SegmentState, tuple[str, State]] = {
    "kept": ("holds", 1),
    "worse": ("worse", -1),
    "undecided": ("undecided", 0),
    "rare": ("too rare to decide", 0),
}
"""The word of a declared segment's state, and its colour."""


def segment_scale(found: SegmentReport, width: int) -> IntervalScale:
    """The scale of a plot of all declared segments, and of the traffic without those that do not hold."""
    margin = found.segments[0].margin if found.segments else None
    kept = [found.kept.metrics[0].difference] if found.kept else []
    return IntervalScale(extent([*(each.difference for each in found.segments), *kept], margin), margin, width)


def declared_lines(found: SegmentReport | None, most: int = 5) -> list[str]:
    """A line for each declared segment with its interval drawn, worst first; then the traffic that moves, and the
    search for weak spots."""
    if found is None:
        return []
    scale, width = segment_scale(found, 0), max((len(each.name) for each in found.segments), default=0)
    lines = [
        f"{each.name:<{width}}  {interval_text(each.difference, scale):<33}  {_segment(each)}"
        for each in found.segments
    ]
    more = [f"{len(lines) - most} more segments: --full"] if len(lines) > most else []
    return [*lines[:most], *more, *kept_lines(found.kept), *weak_spot_lines(found.weak_spot)]


def _segment(each: DeclaredSegment) -> str:
    if not each.pairs:
        return "no pair yet"
    places = digits_of(each.difference, margin=each.margin)
    value, bounds = number(each.difference.value, places, signed=True), interval(each.difference, places)
    return f"{value} ({bounds}), {counted(each.pairs, 'pair')}: {SEGMENT_STATES[each.state][0]}"


def kept_lines(kept: KeptTraffic | None) -> list[str]:
    """The metrics on the traffic without the worse segments, in a line."""
    if kept is None:
        return []
    found = "; ".join(f"{titled(c)} {_on_kept(c)}" for c in kept.metrics)
    return [f"without {', '.join(kept.excepted)} ({kept.share:.0%} of the pairs): {found}"]


def _on_kept(c: Comparison) -> str:
    places = digits_of(c.difference, margin=c.margin)
    value = number(c.difference.value, places, signed=True)
    return f"{value} ({interval(c.difference, places)}): {finding(c)}"


def weak_spot_lines(found: WeakSpot | None) -> list[str]:
    """States the result of the search for weak spots in one line."""
    if found is None:
        return []
    if not found.alarm:
        return [
            f"weak spots: none found in {counted(found.pairs, 'pair')} (of {count(found.needed)} that a ramp waits for)"
        ]
    share = "" if found.share is None else f", {found.share:.0%} of the pairs"
    loss = "" if found.difference is None else f": {number(found.difference, 2, signed=True)} there"
    return [f"weak spot: worse where {found.where}{share}{loss} (p = {found.p:.2g} at any look)"]


def segment_line(each: SegmentDifference) -> str:
    """ "language = de: −0.081 (−0.120 … −0.042) over 120 pairs"."""
    places = digits_of(each.difference)
    value, bounds = number(each.difference.value, places, signed=True), interval(each.difference, places)
    return f"{each.property} = {each.value}: {value} ({bounds}) over {counted(each.pairs, 'pair')}"


def responses_line(c: Comparison | None) -> str:
    """Sentence on the number of answers that people rated; "" for a metric that is not feedback."""
    if c is None or c.responses is None:
        return ""
    r = c.responses
    shares = (
        f"{c.metric} was given on {share(r.a.share)} of the control's {counted(r.a.closed, 'answer')} and on "
        f"{share(r.b.share)} of the candidate's {count(r.b.closed)}"
    )
    how = ", and is 0 for the others" if r.missing == "zero" else "; the others are in no mean"
    waiting = f"; {counted(r.waiting, 'answer')} may still get some" if r.waiting else ""
    return f"{shares}{how}{waiting}."


def response_caution(c: Comparison) -> str:
    """Caution about different shares of rated answers; "" where they are not shown to differ, or do not matter."""
    if c.responses is None or not c.responses.selective:
        return ""
    difference = c.responses.difference
    bounds = interval(difference, digits_of(difference), signed=True)
    return (
        f"{c.metric} is given more often on one arm (difference of the shares {bounds}): the means are of different "
        "people's answers, and a difference between them may come from that. `feedback_missing: zero` compares all "
        "answers."
    )


@dataclass(frozen=True, slots=True)
class Saving:
    """The cost of the traffic that was compared, as it is and as the verdict would have it."""

    before: float
    """USD per thousand requests on the control."""
    after: float
    """USD per thousand requests, with the excepted segments still on the control."""

    @property
    def share(self) -> float:
        return 1.0 - self.after / self.before


def saving_of(report: Report) -> Saving | None:
    """The saving of a verdict that moves traffic. None if it moves none, or a cost is not known: where segments stay
    with the control, that of the moved part is known if `cost_per_1k` is a guardrail."""
    costs = next((c for c in comparisons(report) if c.metric == COST), None)
    if report.verdict not in SHIPS or costs is None or not costs.a.value or costs.b.value is None:
        return None
    if report.verdict == "ship":
        return Saving(costs.a.value, costs.b.value)
    kept = report.declared.kept if report.declared else None
    moved = next((c for c in kept.metrics if c.metric == COST), None) if kept else None
    if kept is None or moved is None or moved.a.value is None or moved.b.value is None:
        return None
    return Saving(costs.a.value, costs.a.value - kept.share * (moved.a.value - moved.b.value))


LOOKS = {"every": "every look", "one": "one look"}


def people_look(c: Comparison) -> str:
    """Looks at which the interval of a difference as people judge is valid: "every look" or "one look"; "": none."""
    return LOOKS[c.corrected_basis.looks] if c.corrected_basis is not None else ""


def people_line(c: Comparison | None) -> str:
    """The difference as people judge next to the judge's own, in a sentence; "" without one."""
    if c is None or c.corrected is None or c.corrected_basis is None:
        return ""
    places = digits_of(c.difference, margin=c.margin)
    own, people = (number(e.value, places, signed=True) for e in (c.difference, c.corrected))
    bounds = interval(c.corrected, places, signed=True)
    return f"{c.metric}: {own}; as people judge {people} ({bounds}, {people_look(c)}), {_basis(c.corrected_basis)}."


def _basis(of: CorrectedBasis) -> str:
    if of.source == "error_rates":
        labels = counted(of.elsewhere, "label")
        return f"by the judge's error rates on {labels} of other answers, taken as the same on both arms"
    labels = counted(sum(of.labels), "label")
    if of.source == "arms":
        return f"from {labels} of both arms' answers, each arm on its own"
    return f"from the pairs' scores and {labels}; {counted(of.both, 'pair')} labelled on both sides"


SEGMENTS = (
    "Exploratory: these parts were not planned, they overlap, and they decide nothing. Their intervals hold for all of "
    "them together (Holm's procedure), at every look."
)


def except_lines(report: Report) -> list[str]:
    """A line on how a verdict `ship_except` is put into force; none for another one."""
    if report.verdict != "ship_except" or report.declared is None or report.declared.kept is None:
        return []
    if report.ramp is None:
        return [f"next: gateway route except {report.experiment} --write makes the route that serves it"]
    named = " ".join(f"--except {each}" for each in report.declared.kept.excepted)
    return [f"next: gateway ab promote {report.experiment} {named} --reason …"]


def next_lines(report: Report) -> list[str]:
    """Lines on the remaining work until the verdict; none where nothing is open."""
    p = report.progress
    if p is None or not (p.open or p.sentence):
        return []
    depends = None if report.traffic is None else dependence_line(report.traffic)
    word = "pair" if report.primary is None else report.primary.counts
    return [
        *(f"open: {condition_line(each, word)}" for each in p.open),
        *([] if depends is None else [depends]),
        *(f"shorter with {step_line(each)}" for each in p.steps),
        *([] if p.next_step is None else [f"next: {p.next_step}"]),
    ]


def finding(c: Comparison) -> str:
    """Finding on a metric in a few words: about its margin if it has one, else about its direction."""
    if c.margin is None:
        return {"better": "better", "worse": "worse", "unclear": "no difference shown"}[c.direction_found]
    margin = f"{c.margin:g}"
    if c.margin_found == "inferior":
        return f"worse by more than {margin}"
    if c.margin_found == "unclear":
        more = f"; about {counted(c.pairs_needed, c.counts)} more" if c.pairs_needed and not c.stopped else ""
        return f"undecided{more}"
    same = f"the same within {margin}" if c.margin_found == "equivalent" else f"not worse by more than {margin}"
    return {"better": "better", "worse": f"worse, by no more than {margin}", "unclear": same}[c.direction_found]


def finding_state(c: Comparison) -> State:
    """Whether the finding is good (1), bad (-1), or neither (0)."""
    return _DIRECTION_STATES[c.direction_found] if c.margin is None else _MARGIN_STATES[c.margin_found]


def comparisons(report: Report) -> list[Comparison]:
    """The primary, the guardrails, the others. A metric that is listed twice is shown once, in its deciding role."""
    found: dict[str, Comparison] = {}
    for c in (*([report.primary] if report.primary else []), *report.guardrails, *report.metrics):
        found.setdefault(c.metric, c)
    return list(found.values())


def arms_compared(report: Report) -> tuple[Arm, Arm] | None:
    """The control and the candidate. None if one of them is missing."""
    candidate = next((arm for arm in report.arms if arm.arm == report.candidate), None)
    control = next((arm for arm in report.arms if arm.arm not in (report.candidate, REPEAT, AGAIN)), None)
    return (control, candidate) if control and candidate else None


def latency_compared(report: Report) -> tuple[ArmLatency, ArmLatency] | None:
    """The latency of complete answers: of the arm that was requested on the candidate's path, and of the candidate."""
    fair = {each.arm: each for each in report.latency if each.measure == "total_s" and each.comparable}
    control = report.arms[0].arm if report.arms else CONTROL
    candidate, other = fair.get(report.candidate), fair.get(REPEAT) or fair.get(control) or fair.get(CONTROL)
    return (other, candidate) if other and candidate and other is not candidate else None


def arm_colors(report: Report) -> dict[str, ArmColor]:
    """The role by which each arm is coloured. The first arm that is neither candidate nor repeat is the control."""
    colors: dict[str, ArmColor] = {report.candidate: "candidate", REPEAT: "repeat"}
    for arm in (*(each.arm for each in report.arms), *(each.arm for each in report.latency)):
        if arm == AGAIN:
            colors[arm] = "repeat"
        elif arm not in colors:
            colors[arm] = "other" if "control" in colors.values() else "control"
    return colors


_WHY_NOT_OFFERED = {
    "busy": "the candidate's concurrency was used up: budget.concurrency, or the upstream's concurrency",
    "gate": "served calls were slow, or the candidate was loaded: gate",
    "budget": "the day's budget was spent, or the candidate has no price: budget",
    "target_down": "the candidate was down, or its circuit breaker open",
    "has_effects": "the request may have effects, such as a stored response or a tool that the provider runs",
    "not_allowed": "its key or API is not in allow",
    "kill": "the experiment stopped at that moment",
    "all_dropped": "no candidate is left that could be the best",
    "conversation_complete": "its conversation has 20 pairs, or was quiet for 30 minutes: later pairs do not count",
    "tool_calls": "the answer is a tool call, which is not one text",
    "reasoning": "the answer has reasoning, which chat templates remove from earlier messages",
    "several_answers": "the request asks for several answers (`n`)",
    "images": "the request has images",
    "audio": "the request has audio",
    "prefill": "the client continued a message of its own",
    "no_text": "the answer is empty",
    "truncated": "the answer is larger than the record's cap",
    "no_content": "only metadata of the key's calls is recorded, so no scorer can tell a refusal from an answer",
    "guard_enforced": "the guard acts on the call's unit already; it must observe while it is a candidate",
    "guard_undecided": "the guard, as it is configured now, left no decision on the call",
    "not_chat": "the request is not a chat, or too large to be read between calls",
}


def withheld_notes(report: Report) -> list[str]:
    """Explains each reason why a drawn request was not sent to the candidate, with the setting behind it."""
    return not_offered_notes([reason.removeprefix("not offered: ") for reason, n in report.withheld if n])


def not_offered_notes(reasons: Iterable[str]) -> list[str]:
    """ "busy: the candidate had no free place: …" for each reason that is one."""
    return [f"{reason}: {_WHY_NOT_OFFERED[reason]}" for reason in reasons if reason in _WHY_NOT_OFFERED]


def ineligible_notes(results: Iterable[str]) -> list[str]:
    """Explains each reason for which calls are outside an experiment, since its arm is asked for decisions alone."""
    names = [(result, result.removeprefix("ineligible_")) for result in results]
    texts: Mapping[str, str] = {str(reason): text for reason, text in INELIGIBLE.items()}
    return [f"{result}: {texts[name]}" for result, name in names if result != name and name in texts]


def pairs_drawn(report: Report) -> int:
    """The number of compared and of withheld pairs together."""
    return report.pairs + sum(n for _, n in report.withheld)


def ramp_line(report: Report) -> str | None:
    """State of the ramp in one line; None if there is none."""
    ramp = report.ramp
    if ramp is None:
        return None
    state = ramp.state.replace("_", " ") + (", paused" if ramp.paused else "")
    at = f"step {ramp.step} of {len(ramp.steps)}, " if ramp.state == "ramp" else ""
    overridden = len(ramp.overrides)
    forced = f"; {overridden} step{'s' * (overridden != 1)} taken without the evidence" if overridden else ""
    return f"Ramp: {state}: {at}the candidate serves {share(ramp.share)} of the units{forced}"


def override_lines(report: Report) -> list[str]:
    """Lines on each step that a person took without the evidence, with the reason."""
    return [
        f"Override on {when(each.at)} by {each.by}, to {share(each.share)} of the units: {each.reason}"
        for each in (report.ramp.overrides if report.ramp else ())
    ]
