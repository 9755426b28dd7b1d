"""The part of a report that only a likelihood experiment has: read from the store, and shown as page and as lines.

It shows the distribution over calls, and the calls that differ most.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.core.json_values import parse_object
from gateway.core.likelihood import REFUSALS, AnswerToken, likelihood_from_json, tokens_from_json
from gateway.core.plan import NATS_PER_TOKEN, REPEAT, TOP1_AGREEMENT
from gateway.features.experiments.rows.queries import likelihoods_of_arm, responses_of_pair, served_requests
from gateway.reports import number_format as say
from gateway.reports.charts import LikelihoodBars, likelihood_chart
from gateway.reports.model import (
    Estimate,
    LikelihoodBin,
    LikelihoodCall,
    LikelihoodFinding,
    Report,
    TokenLikelihood,
    UnlikelyToken,
)
from gateway.reports.section import Cell, Column, Row, Table, table
from gateway.store import sequences as kept
from gateway.store.query import Reading
from gateway.verdict.findings import Finding
from gateway.verdict.states import SequenceStates

WIDEST = 10  # calls
BINS = 16
MOST_CALLS = 2000  # the newest ones, whose settings and lengths are read
MOST_TOKENS = 400  # of a call that is shown
WORST = 5  # tokens of a call
BEFORE = 60  # characters before such a token
LEAST = 0.1  # nats that a token must lose to be one of the worst
_NONE = Estimate(None)


def likelihood_of(connection: Reading, found: Finding, look: SequenceStates) -> LikelihoodFinding | None:
    """Reads the findings; None means that the experiment compares answers."""
    plan = found.stored_plan
    if not plan.plan.likelihood:
        return None
    sequence = look.sequences.get((found.candidate, NATS_PER_TOKEN))
    noise = look.sequences.get((REPEAT, NATS_PER_TOKEN))
    agreement, own = (look.sequences.get((arm, TOP1_AGREEMENT)) for arm in (found.candidate, REPEAT))
    name = found.names.get(NATS_PER_TOKEN)
    taken = [] if name is None else kept.increments_of(connection, name)
    repeated = [] if name is None else kept.increments_of(connection, replace(name, candidate=REPEAT))
    sampled = settings_of(served_requests(connection, plan.hash, MOST_CALLS))
    divergence = _turned(sequence.estimate()) if sequence else _NONE
    lengths = (likelihood_from_json(each) for each in likelihoods_of_arm(connection, plan.hash, REPEAT, MOST_CALLS))
    widest = sorted(taken, key=lambda each: (-abs(each.difference), each.pair))[:WIDEST]
    return LikelihoodFinding(
        calls=sequence.n if sequence else 0,
        tokens=sum(each.tokens for each in lengths if each is not None),
        control=sequence.arm("a") if sequence else _NONE,
        candidate=sequence.arm("b") if sequence else _NONE,
        divergence=divergence,
        noise=_turned(noise.estimate()) if noise and noise.n else None,
        noise_calls=noise.n if noise else 0,
        agreement=agreement.arm("b") if agreement else _NONE,
        noise_agreement=own.arm("b") if own and own.n else None,
        perplexity_ratio=_exponential(divergence),
        sampled=tuple(sampled.most_common()),
        estimates=what_it_estimates(sampled),
        distribution=distribution([-each.difference for each in taken], [-each.difference for each in repeated]),
        refused=_refused(found),
        widest=tuple(_read_call(connection, each.pair, found.candidate, -each.difference) for each in widest),
    )


def _turned(e: Estimate) -> Estimate:
    value, low, high = (None if v is None else 0.0 - v for v in (e.value, e.high, e.low))
    return Estimate(value, low, high)


def _exponential(e: Estimate) -> Estimate:
    value, low, high = (None if v is None else math.exp(min(v, 700.0)) for v in (e.value, e.low, e.high))
    return Estimate(value, low, high)


def _refused(found: Finding) -> tuple[tuple[str, int], ...]:
    name = found.names.get(NATS_PER_TOKEN)
    counts: Counter[str] = Counter()
    for (sequence, reason, arm), n in found.withheld.items():
        if sequence == name and reason in REFUSALS:
            counts[f"{REFUSALS[reason]}: {arm}" if arm else REFUSALS[reason]] += n
    return tuple(counts.most_common())


PLAIN = "temperature 1, top_p 1"
_UNSTATED = "temperature not stated"
_SHAPING = ("top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias")


def settings_of(requests: Sequence[bytes]) -> Counter[str]:
    """Counts the requests by the sampling that they state."""
    return Counter(_setting(parse_object(request) or {}) for request in requests)


def _setting(request: Mapping[str, Any]) -> str:
    temperature, top_p = request.get("temperature"), request.get("top_p")
    if not isinstance(temperature, int | float):
        return _UNSTATED
    others = [name for name in _SHAPING if request.get(name)]
    stated = f"temperature {temperature:g}"
    stated += f", top_p {top_p:g}" if isinstance(top_p, int | float) else ", top_p 1"
    return ", ".join([stated, *others])


def what_it_estimates(sampled: Mapping[str, int]) -> str:
    """Says what the mean difference estimates, given how the served answers were drawn."""
    total, plain = sum(sampled.values()), sampled.get(PLAIN, 0)
    if total and plain == total:
        return (
            "Every answer was drawn at temperature 1 with top_p 1, so the mean difference estimates the divergence "
            "KL(control ‖ candidate) per token."
        )
    return (
        f"Of {total} answers, {plain} were stated to be drawn at temperature 1 with top_p 1. For the others the mean "
        "difference is not a KL divergence: it says how much more probable the control's text is under the "
        "control, and may be below 0 for an engine that is as good. A temperature alone changes neither engine's "
        "log-probabilities, which are those before it is applied."
    )


def distribution(differences: Sequence[float], noise: Sequence[float]) -> tuple[LikelihoodBin, ...]:
    """Counts over equal intervals. () if no call was compared. The first and the last bin include the values beyond
    them."""
    if not differences:
        return ()
    ordered = sorted([*differences, *noise])
    low, high = ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]
    if high - low < 1e-9:
        low, high = low - 5e-7, high + 5e-7
    width = (high - low) / BINS

    def counts(values: Sequence[float]) -> Counter[int]:
        return Counter(min(max(int((value - low) / width), 0), BINS - 1) for value in values)

    ours, its = counts(differences), counts(noise)
    return tuple(LikelihoodBin(low + i * width, low + (i + 1) * width, ours[i], its[i]) for i in range(BINS))


def _read_call(connection: Reading, pair: str, arm: str, difference: float) -> LikelihoodCall:
    responses = responses_of_pair(connection, pair)
    control, candidate = (tokens_from_json(responses.get(name, b"")) for name in (REPEAT, arm))
    tokens = token_differences(control, candidate)
    return LikelihoodCall(
        pair, difference, tokens[:MOST_TOKENS], max(0, len(tokens) - MOST_TOKENS), worst_tokens(tokens)
    )


def token_differences(control: Sequence[AnswerToken], candidate: Sequence[AnswerToken]) -> tuple[TokenLikelihood, ...]:
    """Differences by token; () if the tokens of one arm are not recorded, or are others."""
    if len(control) != len(candidate):
        return ()
    both = zip(control, candidate, strict=True)
    return tuple(TokenLikelihood(a.text, a.logprob, b.logprob, b.best) for a, b in both)


def worst_tokens(tokens: Sequence[TokenLikelihood]) -> tuple[UnlikelyToken, ...]:
    """Tokens that lose most under the candidate, the largest loss first, each with the text before it."""
    lost = [i for i, token in enumerate(tokens) if token.difference <= -LEAST]
    chosen = sorted(lost, key=lambda i: (tokens[i].difference, i))[:WORST]
    return tuple(UnlikelyToken(_before(tokens, i), tokens[i]) for i in chosen)


def _before(tokens: Sequence[TokenLikelihood], place: int) -> str:
    return "".join(each.text for each in tokens[max(0, place - BEFORE) : place])[-BEFORE:]


# (a difference in nats from which a token has this class, the class, what it means). The sign is also in the line below
# a token, since no information may be in a colour alone.
_CLASSES = (
    (2.0, "much", "2 nats or more (a factor of 7.4)"),
    (0.5, "some", "0.5 to 2 nats (a factor of 1.6 to 7.4)"),
    (0.1, "little", "0.1 to 0.5 nats"),
)


@dataclass(frozen=True, slots=True)
class MarkedToken:
    """A token of an answer as it is shown. look: the CSS classes; "" if the engines agree on it."""

    text: str
    look: str
    title: str


def token_class(difference: float) -> str:
    """The CSS classes of a token. difference: candidate minus control, in nats."""
    size = next((name for least, name, _ in _CLASSES if abs(difference) >= least), "")
    return f"{'less' if difference < 0 else 'more'} {size}" if size else ""


def likelihood_page(report: Report) -> dict[str, Any] | None:
    """The values for the template; None means that the experiment compares answers."""
    found = report.likelihood
    if found is None:
        return None
    margin = report.primary.margin if report.primary else None
    bars = LikelihoodBars("likelihood-calls", "Calls by their difference", found.distribution, margin)
    return {
        "lead": found.estimates,
        "figures": _figures(found),
        "chart": likelihood_chart(bars),
        "distribution": _distribution(found),
        "sampled": "; ".join(f"{setting}: {say.counted(n, 'call')}" for setting, n in found.sampled),
        "refused": [f"{reason}: {say.counted(n, 'pair')}" for reason, n in found.refused],
        "legend": [*_legend("less", "less likely"), *_legend("more", "more likely")],
        "calls": [_call(each) for each in found.widest],
    }


def _legend(direction: str, words: str) -> Iterator[MarkedToken]:
    for _, name, size in _CLASSES:
        yield MarkedToken(f"{words} under the candidate by {size}", f"{direction} {name}", "")


def _rows(found: LikelihoodFinding) -> Iterator[tuple[str, str, Estimate | None, bool]]:
    yield "Served answers under the control", "nats per token", found.control, False
    yield "Served answers under the candidate", "nats per token", found.candidate, False
    yield "Difference, candidate minus control", "nats per token", found.divergence, True
    noise = f"nats per token, {say.counted(found.noise_calls, 'call')}"
    yield "Noise floor: the control against itself", noise, found.noise, True
    yield "Perplexity ratio", "exp of the difference; above 1: less likely", found.perplexity_ratio, False
    yield "Same most likely token", "share of places", found.agreement, False
    yield "The same of the control with itself", "share of places", found.noise_agreement, False


def _figures(found: LikelihoodFinding) -> Table:
    rows = [
        Row(Cell(name, note), (Cell(_value(e, signed)), Cell(_interval(e, signed))))
        for name, note, e, signed in _rows(found)
        if e is not None and e.value is not None
    ]
    return table(
        "Likelihood of the served answers", (Column("", "text"), Column("Mean"), Column("Interval")), [("", rows)]
    )


def _value(e: Estimate, signed: bool) -> str:
    return say.number(e.value, 4, signed=signed)


def _interval(e: Estimate, signed: bool) -> str:
    return "" if e.low is None and e.high is None else say.interval(e, 4, signed=signed)


def _distribution(found: LikelihoodFinding) -> Table:
    columns = (Column("Nats per token", "text"), Column("Calls"), Column("Control against itself"))
    rows = [
        Row(Cell(_edges(each)), (Cell(say.count(each.calls)), Cell(say.count(each.noise))))
        for each in found.distribution
        if each.calls or each.noise
    ]
    return table("Calls by their difference", columns, [("", rows)])


def _edges(each: LikelihoodBin) -> str:
    places = say.digits(each.high - each.low) + 1
    return f"{say.number(each.low, places, signed=True)} … {say.number(each.high, places, signed=True)}"


def _call(each: LikelihoodCall) -> dict[str, Any]:
    return {
        "id": each.exchange,
        "difference": say.number(each.difference, 4, signed=True),
        "tokens": [_marked(token) for token in each.tokens],
        "left_out": each.left_out,
        "worst": [
            {
                "before": w.before,
                "token": w.token.text,
                "instead": w.token.instead,
                "difference": say.number(w.token.difference, 2, signed=True),
            }
            for w in each.worst
        ],
    }


def _marked(token: TokenLikelihood) -> MarkedToken:
    title = f"control {token.control:.2f}, candidate {token.candidate:.2f} nats"
    return MarkedToken(token.text, token_class(token.difference), title)


def likelihood_lines(found: LikelihoodFinding | None) -> list[str]:
    """Lines for the terminal."""
    if found is None or found.divergence.value is None:
        return [f"{reason}: {say.counted(n, 'pair')}" for reason, n in found.refused] if found else []
    lines = [
        f"{name} ({note}): {_value(e, signed)} {_interval(e, signed)}".rstrip()
        for name, note, e, signed in _rows(found)
        if e is not None and e.value is not None
    ]
    lines += [found.estimates, *(f"refused, {reason}: {say.counted(n, 'pair')}" for reason, n in found.refused)]
    for call in found.widest[:3]:
        worst = "; ".join(
            f"…{w.before[-30:]}[{w.token.text}] {say.number(w.token.difference, 2, signed=True)}"
            for w in call.worst[:2]
        )
        difference = say.number(call.difference, 4, signed=True)
        lines.append(f"{call.exchange}: {difference} nats per token{f': {worst}' if worst else ''}")
    return lines
