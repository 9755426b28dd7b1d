"""The sentence of a verdict, built once for the terminal, the page, the console, Grafana and webhooks. Pure.

It states the change in the metric's own unit, then the verdict; the recommended action has a line of its own. The badge
is built from the same values, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from gateway.core.guards import guard_in
from gateway.core.horizon import BURN_IN as FEWEST
from gateway.core.plan import FAILURE_METRICS
from gateway.core.segments import METADATA, segment_name
from gateway.reports import number_format as say
from gateway.reports.model import (
    BestOfK,
    Comparison,
    Estimate,
    GateResult,
    Progress,
    RampHistory,
    SegmentDifference,
    State,
    Verdict,
)
from gateway.verdict.decision import FUTILE, HARMLESS, SHIPS, rejects
from gateway.verdict.short_names import short_names, shortened
from gateway.verdict.traffic_facts import UNITS

MOST = 90
"""Characters of a sentence: two lines of a page, one of a terminal."""
SIGNS: dict[State, str] = {1: "✓", 0: "?", -1: "✕"}  # a reader who sees no colours reads the sign
VERDICTS: dict[Verdict, str] = {"ship": "Ship", "ship_except": "Ship except", "reject": "Reject", "hold": "Hold"}
VERDICT_STATES: dict[Verdict, State] = {"ship": 1, "ship_except": 1, "hold": 0, "reject": -1}
ENDED: dict[str, tuple[str, State]] = {
    "rolled_back": ("Rolled back", -1),
    "stopped": ("Ramp stopped", 0),
    "promoted": ("Promoted", 1),
}
"""A ramp's last states: their word, and its colour."""
_WORDS = {"error_rate": "failed", "valid_json": "valid JSON", "completion": "complete", "cost_per_1k": "cost of 1k"}
_FAULTS = {"refusal": "refused", "truncation": "cut off", "repetition": "repeated"}
"""Words of shares that are shown as measured, where less is better."""
_GATES = {
    "aa": "the control differs from itself",
    "losses": "too many answers were lost",
    "srm": "the shares of traffic are not as planned",
    "path": "the arms got different requests",
    "judge": "too many judgements failed",
    "completeness": "one arm lacks more scores",
    "client_left": "clients leave the candidate more often",
    "likelihood": "the engines read different tokens",
    "adjustment": "adjusting moves the difference",
    "scored": "the scorer failed on too many answers",
}
"""Plain words for a gate that is red."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The facts of a sentence. control, candidate: targets, as text."""

    control: str
    candidate: str
    verdict: Verdict
    primary: Comparison | None
    """The arms' values are those that the metric measures."""
    guardrails: tuple[Comparison, ...] = ()
    gates: tuple[GateResult, ...] = ()
    pairs: int = 0
    progress: Progress | None = None
    """Work that remains until the verdict; None if nothing is known."""
    ramp: RampHistory | None = None
    best: BestOfK | None = None
    excepted: tuple[str, ...] = ()
    """Names of segments that stay with the control."""
    moved: Comparison | None = None
    """The primary on the traffic without the excepted segments, which is what a verdict `ship_except` moves."""
    loser: SegmentDifference | None = None
    """A part of the traffic that nobody declared and that loses more than the margin, under a verdict `ship`."""
    these: str = ""
    """The users or keys that the verdict is about, "these 25 keys"; "" if it is about others too."""

    @property
    def counts(self) -> str:
        """The word for one of its pairs."""
        return "pair" if self.primary is None else self.primary.counts


@dataclass(frozen=True, slots=True)
class VerdictSentence:
    text: str
    """The sentence, at most MOST characters."""
    action: str
    """The recommended action, at most MOST characters."""
    settings: str
    """The targets in full, the metric with its margin, and the pairs."""
    badge: str
    state: State
    """The colour of the badge."""


def best_about(best: BestOfK | None, candidate: str) -> BestOfK | None:
    """The comparison of several candidates, where a report on this one is about all of them: its figures are those of
    the one that leads. None if the report is about this candidate alone."""
    return best if best is not None and best.leader in (None, candidate) else None


def verdict_sentence(of: Outcome) -> VerdictSentence:
    badge, state = badge_of(of)
    control, candidate = short_names((of.control, of.candidate))
    if (guard := guard_in(of.candidate)) is not None:
        candidate = f"With guard {shortened(guard, 24)}"
    text, action = _said(of, control, candidate)
    return VerdictSentence(text, shortened(action, MOST), _settings(of), badge, state)


def badge_of(of: Outcome) -> tuple[str, State]:
    """(the words that a reader needs first, their colour): the ramp's state once there is one, else the verdict."""
    if of.best is not None:
        return _best_badge(of.best)
    state = VERDICT_STATES[of.verdict]
    return ramp_badge(of.ramp) or (f"{SIGNS[state]} {VERDICTS[of.verdict]}", state)


def ramp_badge(ramp: RampHistory | None) -> tuple[str, State] | None:
    """(the state of a ramp that has begun to serve, in a word or two, its colour). None if there is none yet, only the
    verdict on the pairs."""
    if ramp is None or ramp.state == "shadow":
        return None
    if ramp.state == "ramp":
        return f"{SIGNS[0]} Step {ramp.step} of {len(ramp.steps)}{', paused' * ramp.paused}", 0
    word, state = ENDED.get(ramp.state, (ramp.state, 0))
    return f"{SIGNS[state]} {word}", state


def _best_badge(best: BestOfK) -> tuple[str, State]:
    if best.verdict == "best":
        return f"{SIGNS[1]} Best: {best.best}", 1
    return (f"{SIGNS[0]} Hold", 0) if best.verdict == "open" else (f"{SIGNS[-1]} Reject", -1)


def _said(of: Outcome, control: str, candidate: str) -> tuple[str, str]:
    """(the sentence, what to do). control, candidate: short names."""
    ramp = of.ramp
    if of.best is not None:
        return _of_best(of, of.best, control)
    if ramp is not None and ramp.state in ENDED:
        return _of_ended_ramp(of, ramp, control, candidate)
    action = _action(of, control, candidate)
    if ramp is not None and ramp.state == "ramp":
        return _of_step(of, ramp, candidate), _step_action(ramp, action)
    return _of_verdict(of, candidate), action


def _of_verdict(of: Outcome, candidate: str) -> str:
    word = _word(of)
    if of.primary is None:
        return "No pair yet. Hold." if not of.pairs else fitted(f"{candidate}: no primary metric decides it. {word}")
    red = next((gate for gate in of.gates if gate.state < 0), None)
    if of.verdict == "hold" and red is not None:
        why = _GATES.get(red.name, f"the gate {shortened(red.name, 16)} has failed")
        return fitted(f"{candidate}: no verdict, since {why}. {word}", f"No verdict, since {why}. {word}")
    return fitted(*(f"{candidate}: {text}. {word}" for text in _changes(of)), f"{candidate}. {word}")


def _word(of: Outcome) -> str:
    """The verdict as the end of a sentence, with what a reader must know before traffic moves."""
    kept = shortened(", ".join(of.excepted), 24 if of.loser is None else 16)
    if of.loser is not None:
        also = f" keep {kept}:" if of.verdict == "ship_except" else ""
        return f"Ship, but{also} {_loss(of.loser)}."
    if of.verdict == "ship_except":
        return f"Ship, but keep {kept}."
    return f"{VERDICTS[of.verdict]}{f' for {of.these}' if of.these and of.verdict == 'ship' else ''}."


def with_loss(sentence: str, loser: SegmentDifference | None) -> str:
    """The sentence of a decision, with the part of the traffic that loses under it."""
    if loser is None:
        return sentence
    places = say.digits_of(loser.difference)
    numbers = f"{say.number(loser.difference.value, places, signed=True)}, {say.interval(loser.difference, places)}"
    text = f"{segment_name(loser.property, loser.value)} ({numbers}, {say.counted(loser.pairs, 'pair')})"
    return f"{sentence} But it loses where {text}, which is no declared segment: look at it first."


def loser_of(
    verdict: Verdict,
    primary: Comparison | None,
    segments: Callable[[], Iterable[SegmentDifference]],
    excepted: Collection[str] = (),
) -> SegmentDifference | None:
    """The part of the traffic that a verdict must name, since it moves traffic above that loss; None if there is none.

    segments: reads the exploratory ones, only where the verdict moves traffic. excepted: names of declared segments
    that a verdict `ship_except` leaves with the control.
    """
    if verdict not in SHIPS or primary is None:
        return None
    stays = excepted if verdict == "ship_except" else ()
    moving = (segment for segment in segments() if segment_name(segment.property, segment.value) not in stays)
    return strongest_loser(moving, primary.margin)


def strongest_loser(segments: Iterable[SegmentDifference], margin: float | None) -> SegmentDifference | None:
    """The undeclared segment that loses most, of those whose whole interval is below the margin; None if there is none.

    margin: of the primary in the plan.
    """
    beyond = [s for s in segments if s.difference.high is not None and s.difference.high < -(margin or 0.0)]
    return min(beyond, key=lambda s: s.difference.value or 0.0, default=None)


def _loss(of: SegmentDifference) -> str:
    """ "code loses 0.46": the segment by its value."""
    name = of.value if of.property.startswith(METADATA) else segment_name(of.property, of.value)
    return f"{shortened(name, 24)} loses {_size(of.difference.value or 0.0, say.digits_of(of.difference))}"


def _changes(of: Outcome) -> list[str]:
    """Descriptions of the difference that the verdict rests on, the longest first."""
    if of.verdict == "ship_except" and of.moved is not None:
        return [f"{text} elsewhere" for text in changes(of.moved)]
    return changes(_deciding(of))


def _deciding(of: Outcome) -> Comparison | None:
    """The comparison that a reject rests on, else the primary."""
    if of.verdict == "reject":
        return next((c for c in (of.primary, *of.guardrails) if c is not None and rejects(c)), of.primary)
    return of.primary


def _of_step(of: Outcome, ramp: RampHistory, candidate: str) -> str:
    word = _word(of)
    at = f"{candidate} serves {percent(ramp.share)} at step {ramp.step} of {len(ramp.steps)}{', paused' * ramp.paused}"
    return fitted(*(f"{at}; {text}. {word}" for text in _changes(of)), f"{at}. {word}", f"{at}.")


def _step_action(ramp: RampHistory, otherwise: str) -> str:
    if ramp.paused:
        return "Resume the ramp, or roll it back."
    return otherwise if otherwise.startswith("Wait") else "The next step follows when its evidence is complete."


def ended_sentence(state: str, reason: str) -> str:
    """The sentence on a ramp that has ended. state: a key of ENDED. reason: "" if unknown."""
    return shortened(f"{ENDED[state][0]}: {reason}" if reason else ENDED[state][0], MOST)


def _of_ended_ramp(of: Outcome, ramp: RampHistory, control: str, candidate: str) -> tuple[str, str]:
    actions = {
        "rolled_back": f"{control} serves every call again; fix {candidate} before the ramp resumes.",
        "promoted": f"{candidate} serves; make it the target in gateway.yaml.",
        "stopped": f"{control} serves every call; start the experiment again to continue.",
    }
    said = ended_sentence(ramp.state, ramp.changes[-1].reason if ramp.changes else "")
    if ramp.state == "promoted":
        said = fitted(*(f"{ENDED[ramp.state][0]}: {candidate}, {text}." for text in _promoted(of)), said)
    return said, actions[ramp.state]


def _promoted(of: Outcome) -> list[str]:
    return _changes(of) if of.verdict == "ship_except" else changes(of.primary)


def _of_best(of: Outcome, best: BestOfK, control: str) -> tuple[str, str]:
    n = len(best.candidates)
    if best.verdict == "none":
        return fitted(f"None of {n} candidates may replace {control}. Reject."), f"Keep {control}."
    if best.verdict == "open" and (of.primary is None or not of.primary.pairs):
        return fitted(f"The best of {n} is open: no pair yet. Hold."), _waiting(of)
    word = _word(of) if best.verdict == "best" else "Hold."
    name = shortened(best.best or best.leader or "")
    head = f"{name} is the best of {n}" if best.verdict == "best" else f"The best of {n} is open; {name} leads"
    action = f"Switch to {name}." if best.verdict == "best" else _waiting(of)
    return fitted(*(f"{head}: {text}. {word}" for text in changes(of.primary)), f"{head}. {word}"), action


def _action(of: Outcome, control: str, candidate: str) -> str:
    guard = guard_in(of.candidate)
    if guard is not None and of.verdict != "hold":
        return f"Enforce it: gateway guard promote {guard}." if of.verdict == "ship" else f"Let {guard} observe only."
    if of.loser is not None:
        name = segment_name(of.loser.property, of.loser.value)
        return f"Look at {shortened(name, 40)} first, and declare it as a segment."
    if of.verdict == "ship":
        return "The ramp may take its first step." if of.ramp else f"Switch to {candidate}."
    if of.verdict == "ship_except":
        return f"Switch to {candidate}, but keep {', '.join(of.excepted)} on {control}."
    return f"Keep {control}." if of.verdict == "reject" else _hold_action(of)


def _hold_action(of: Outcome) -> str:
    c, red = of.primary, next((gate for gate in of.gates if gate.state < 0), None)
    if c is None:
        return "Set a primary metric." if of.pairs else "Send traffic: pairs come with it."
    if red is not None:
        return f"Gate {red.name}: {red.says}"
    few = next((gate for gate in of.gates if gate.name == UNITS and gate.state == 0), None)
    if few is not None and of.pairs >= FEWEST:
        return few.says
    if of.progress is not None and of.progress.next_step and (c.closed or c.stopped):
        return _begins(fitted(of.progress.next_step, of.progress.next_step.rpartition("; ")[2]))
    if c.closed and c.margin_found not in HARMLESS:
        return f"Keep the control: its {c.counts}s are taken, and the margin is still undecided."
    if c.chance is not None and c.chance < FUTILE:
        stop = "Stop" if guard_in(of.candidate) else "Stop paying"
        return f"{stop}: the {c.counts}s left decide it with a probability of {c.chance:.0%}."
    return _waiting(of)


def _begins(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _waiting(of: Outcome) -> str:
    if of.primary is not None and of.primary.stopped:
        return "It is stopped and undecided: start it again, or keep the control."
    if of.progress is None:
        return "It is undecided: compare more rows, or widen the margin."
    more = left_for(of.progress, of.counts)
    return f"Wait: about {more}." if more else f"Wait for more {of.counts}s."


def changes(c: Comparison | None) -> list[str]:
    """Descriptions of a difference, the longest first: "right in 30 % instead of 60 %; worse by 0.19 to 0.41"."""
    if c is None or c.difference.value is None:
        return [f"no value of {shortened(c.metric, 24)} yet"] if c is not None else []
    values, bounds = _values(c), _bounds(c)
    if not values or not _agree(c):
        return [f"{shortened(c.metric, 24)} {bounds}"]
    return [f"{values}; {bounds}", values]


def _agree(c: Comparison) -> bool:
    """Whether the difference of the arms' means lies in the interval: that of an adjusted difference may leave it
    out."""
    if c.a.value is None or c.b.value is None or (c.raw is None and c.unadjusted is None):
        return True
    gain = (c.b.value - c.a.value) * (-1.0 if c.better == "lower" else 1.0)
    tolerance = 1e-9 * max(1.0, abs(gain))
    low, high = c.difference.low, c.difference.high
    return (low is None or gain >= low - tolerance) and (high is None or gain <= high + tolerance)


def _values(c: Comparison) -> str:
    """ "right in 30 % instead of 60 %"; "" where an arm's mean is not known."""
    before, after = c.a.value, c.b.value
    if before is None or after is None:
        return ""
    name = shortened(metric_words(c), 24)
    if c.binary or c.metric in FAILURE_METRICS:
        places = 0 if abs(after - before) >= 0.02 else 1
        new, old = percent(after, places), percent(before, places)
        return f"{name} in {new} on both" if new == old else f"{name} in {new} instead of {old}"
    places = say.digits_of(c.difference, margin=c.margin)
    new, old = (_amount(value, c.unit, places) for value in (after, before))
    return f"{name} {new} on both" if new == old else f"{name} {new} instead of {old}"


def metric_words(c: Comparison) -> str:
    """The metric in words, where it is a built-in one; else its name, which the user chose."""
    faults = _FAULTS if c.better == "lower" and c.binary else {}
    return faults.get(c.metric) or _WORDS.get(c.metric, c.metric)


def _amount(value: float, unit: str, places: int) -> str:
    if unit.startswith("USD"):
        return say.dollars(value)
    return f"{say.number(value, places)}{f' {unit}' if unit else ''}"


def _bounds(c: Comparison) -> str:
    """The interval in words: "worse by 0.19 to 0.41"."""
    e, places = c.difference, say.digits_of(c.difference, margin=c.margin)
    low, high = e.low, e.high
    if low is not None and high is not None:
        return _between(Estimate(e.value, low, high), places)
    if low is not None:
        return f"worse by {_size(low, places)} at most" if low < 0 else f"better by {_size(low, places)} or more"
    if high is not None:
        return f"better by {_size(high, places)} at most" if high > 0 else f"worse by {_size(high, places)} or more"
    return "too few pairs for an interval"


def _between(e: Estimate, places: int) -> str:
    low, high = e.low or 0.0, e.high or 0.0
    smaller, larger = sorted((_size(low, places), _size(high, places)), key=lambda text: (len(text), text))
    if low > 0:
        return f"better by {_size(low, places)} to {_size(high, places)}"
    if high < 0:
        return f"worse by {_size(high, places)} to {_size(low, places)}"
    if smaller == larger:
        return f"within {larger} either way"
    return f"between {_size(low, places)} worse and {_size(high, places)} better"


def _size(value: float, places: int) -> str:
    return say.number(abs(value), places)


def percent(part: float, places: int | None = None) -> str:
    """ "30 %"; with a decimal where it would be lost."""
    size = 100 * part
    shown = places if places is not None else (0 if size == round(size) or size >= 10 else 1)
    return f"{say.number(size, shown)}{say.NARROW}%"


def fitted(*options: str) -> str:
    """The first of the options that is short enough; else the last one, cut."""
    return next((each for each in options if len(each) <= MOST), shortened(options[-1], MOST))


def _settings(of: Outcome) -> str:
    parts = [f"{of.control} → {of.candidate}"]
    if (c := of.primary) is not None:
        parts.append(f"{c.metric}, margin {c.margin:g}" if c.margin is not None else c.metric)
    return "; ".join([*parts, say.counted(of.pairs, of.counts)])


def left(p: Progress, word: str = "pair") -> str:
    """ "140 requests, 3 hours"; "unknown" where nothing can be predicted. word: for one of its pairs."""
    if (hours := hours_left(p)) is not None:
        return f"{say.span(hours / 24.0)} of traffic"
    if p.pairs is None:
        return "unknown"
    parts = [say.work(p.pairs, p.requests, word)]
    return ", ".join(parts + ([say.span(p.days)] if p.days is not None else []))


def hours_left(p: Progress) -> float | None:
    """Hours of traffic until the verdict; None if it waits for pairs."""
    return next((each.hours for each in p.open if each.name == p.waits_for), None)


def left_for(p: Progress | None, word: str = "pair") -> str:
    """ "9 500 requests (2.0 days), for helpfulness"; "" where nothing is open, or nothing can be predicted."""
    if p is None or not p.open or left(p) == "unknown":
        return ""
    first, _, time = left(p, word).partition(", ")
    return f"{first}{f' ({time})' if time else ''}{f', for {p.waits_for}' if p.waits_for else ''}"
