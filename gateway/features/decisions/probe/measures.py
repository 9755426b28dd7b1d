"""Figures of a reading from the answers of a probe, and whether it is noise. Pure."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.core.decision import Answer
from gateway.core.decision_reads import READINGS
from gateway.core.providers import DecisionReading
from gateway.features.decisions.probe.model import LEAST_CASES, CaseAnswers, ReadingFigures
from gateway.statistics.paired import wilson

MOST_FLIPS = 0.2
MOST_UNREAD = 0.2
LEAST_BY_STATE = 0.02
"""Least root mean square by which the state has to move a probability."""
_ONE_SIDED = 0.1  # of Wilson's two-sided interval: its lower end is exceeded with 95 %
_ORDER: tuple[DecisionReading, ...] = ("native", *READINGS)

Answers = Mapping[DecisionReading, Sequence[CaseAnswers]]


def figures_of(answers: Answers) -> tuple[ReadingFigures, ...]:
    """The figures of all readings, with the reason of those that are noise."""
    chosen = {reading: _chosen(cases) for reading, cases in answers.items()}
    found = []
    for reading, cases in answers.items():
        agreement: dict[str, float] = {
            other: share
            for other in answers
            if other != reading and (share := _agreement(chosen[reading], chosen[other])) is not None
        }
        figures = replace(_figures(reading, cases), agreement=agreement)
        found.append(replace(figures, refused=noise(figures)))
    return tuple(found)


def _figures(reading: DecisionReading, cases: Sequence[CaseAnswers]) -> ReadingFigures:
    sides = [side for each in cases for side in (each.given, each.reverse)]
    unread = Counter(side for side in sides if isinstance(side, str))
    both = [(each, each.given, each.reverse) for each in cases if isinstance(each.given, Answer)]
    pairs = [(each, one, other) for each, one, other in both if isinstance(other, Answer)]
    figures = ReadingFigures(reading, len(cases), len(pairs), dict(unread))
    if not pairs:
        return figures
    masses = [side.label_mass for side in sides if isinstance(side, Answer) and side.label_mass is not None]
    by_question: dict[str, list[tuple[Answer, Answer]]] = defaultdict(list)
    for each, one, other in pairs:
        by_question[each.case.name].append((one, other))
    known = [(each.case, _likeliest(one, other)) for each, one, other in pairs if each.case.right is not None]
    return replace(
        figures,
        flips=sum(_top(one) != _top(other) for _, one, other in pairs) / len(pairs),
        by_order=_by_order([(one, other) for _, one, other in pairs]),
        by_state=_by_state(list(by_question.values())),
        label_mass=statistics.median(masses) if masses else None,
        right=sum(case.right == likeliest for case, likeliest in known) if known else None,
        labelled=len(known),
        constant=_constant([(case.name, case.right) for case, _ in known]) if known else None,
    )


def noise(figures: ReadingFigures) -> str:
    """The reason for which a reading must not be used, with the figure; "" if there is none."""
    asked = 2 * figures.cases
    missing = sum(figures.unread.values())
    if missing > MOST_UNREAD * asked:
        reason = max(figures.unread, key=lambda name: figures.unread[name])
        return f"no answer to {missing / asked:.0%} of its reads, mostly {reason}"
    if figures.flips is not None and figures.flips > MOST_FLIPS:
        return f"{figures.flips:.0%} of its answers change when the options are listed in reverse"
    by_state, by_order = figures.by_state, figures.by_order
    if by_state is not None and by_order is not None and by_state <= max(by_order, LEAST_BY_STATE):
        return f"the input moves its probabilities by {by_state:.2f}, the order of the options by {by_order:.2f}"
    if figures.right is not None and figures.constant is not None:
        low, _ = wilson(figures.right, figures.labelled, _ONE_SIDED)
        if low <= figures.constant:
            return (
                f"right in {figures.right} of {figures.labelled}, which is not shown to be better than the "
                f"{figures.constant:.0%} of always giving the same answer"
            )
    return ""


def recommended(figures: Sequence[ReadingFigures]) -> DecisionReading | None:
    """The reading to use: of those that are not noise, the one that is right most often, or where that is unknown,
    agrees best with the others; equal ones by fewer flips. None if there is none, or too few cases were answered."""
    usable = [each for each in figures if not each.refused and each.answered >= LEAST_CASES]
    names = {each.reading for each in usable}

    def quality(each: ReadingFigures) -> tuple[float, float, float, int]:
        others = [share for name, share in each.agreement.items() if name in names]
        right = each.right / each.labelled if each.right is not None else 0.0
        agrees = sum(others) / len(others) if others else 0.0
        return (right, agrees, -(each.flips or 0.0), -_ORDER.index(each.reading))

    return max(usable, key=quality).reading if usable else None


def _top(answer: Answer) -> int:
    return max(range(len(answer.probabilities)), key=answer.probabilities.__getitem__)


def _mean(one: Answer, other: Answer) -> list[float]:
    return [(p + q) / 2 for p, q in zip(one.probabilities, other.probabilities, strict=True)]


def _likeliest(one: Answer, other: Answer) -> int:
    mean = _mean(one, other)
    return max(range(len(mean)), key=mean.__getitem__)


def _by_order(pairs: Sequence[tuple[Answer, Answer]]) -> float:
    squares = [
        ((p - q) / 2) ** 2 for one, other in pairs for p, q in zip(one.probabilities, other.probabilities, strict=True)
    ]
    return math.sqrt(sum(squares) / len(squares))


def _by_state(questions: Sequence[Sequence[tuple[Answer, Answer]]]) -> float | None:
    """Returns None unless a question was asked of two states."""
    squares: list[float] = []
    for pairs in questions:
        means = [_mean(one, other) for one, other in pairs]
        if len(means) > 1:
            centre = [sum(column) / len(means) for column in zip(*means, strict=True)]
            squares += [(p - c) ** 2 for mean in means for p, c in zip(mean, centre, strict=True)]
    return math.sqrt(sum(squares) / len(squares)) if squares else None


def _constant(known: Sequence[tuple[str, int | None]]) -> float:
    by_question: dict[str, Counter[int | None]] = defaultdict(Counter)
    for name, right in known:
        by_question[name][right] += 1
    return sum(max(counts.values()) for counts in by_question.values()) / len(known)


def _chosen(cases: Sequence[CaseAnswers]) -> list[int | None]:
    return [
        _likeliest(each.given, each.reverse)
        if isinstance(each.given, Answer) and isinstance(each.reverse, Answer)
        else None
        for each in cases
    ]


def _agreement(one: Sequence[int | None], other: Sequence[int | None]) -> float | None:
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return sum(a == b for a, b in both) / len(both) if both else None
