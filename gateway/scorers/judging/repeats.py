"""Asks a judge the same question several times: the mean of its verdicts, and their standard error."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.score import Score, Spent
from gateway.scorers.judging.model import UnreadableVerdict
from gateway.scoring.asker import total_spent


@dataclass(frozen=True, slots=True)
class RepeatedVerdict:
    """One verdict on the scale [0, 1]."""

    value: float
    reason: str | None = None
    label: str | None = None
    spent: Spent | None = None
    distribution: Mapping[str, float] | None = None
    detail: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RepeatPolicy:
    """The number of repeats: fixed, or until the standard error is small enough."""

    least: int = 1
    most: int | None = None
    """Largest number of repeats. Default: exactly `least`."""
    error: float | None = None
    """Repeat, at most `most` times, while the standard error of the mean exceeds this."""

    def __post_init__(self) -> None:
        if self.least < 1:
            raise ValueError(f"repeats is {self.least}, expected 1 or more")
        if self.most is not None and self.most < self.least:
            raise ValueError(f"max_repeats is {self.most}, below repeats ({self.least})")
        if (self.most is None) != (self.error is None):
            raise ValueError("max_repeats and standard_error go together: repeats stop at whichever is reached first")

    def enough(self, values: Sequence[float]) -> bool:
        if len(values) < max(self.least, 1 if self.error is None else 2):
            return False
        if self.most is None or self.error is None or len(values) >= self.most:
            return True
        error = standard_error(values)
        return error is not None and error <= self.error


async def score_repeatedly(ask: Callable[[int], Awaitable[RepeatedVerdict]], repeats: RepeatPolicy) -> Score:
    """The mean verdict. ask: takes the repeat's number, which is its seed.

    Repeats without a verdict are left out; if no repeat has one, UnreadableVerdict is raised. Raises the errors of
    `ask`.
    """
    verdicts: list[RepeatedVerdict] = []
    lost: list[UnreadableVerdict] = []
    most = repeats.most or repeats.least
    for number in range(most):
        try:
            verdicts.append(await ask(number))
        except UnreadableVerdict as error:
            lost.append(error)
        if repeats.enough([o.value for o in verdicts]) and number + 1 >= repeats.least:
            break
    spent = total_spent([s for s in (*(o.spent for o in verdicts), *(e.spent for e in lost)) if s is not None])
    if not verdicts:
        raise UnreadableVerdict(str(lost[0]), spent)
    return _score(verdicts, spent)


def _score(verdicts: Sequence[RepeatedVerdict], spent: Spent | None) -> Score:
    first = verdicts[0]
    values = [o.value for o in verdicts]
    shares = [o.distribution for o in verdicts if o.distribution is not None]
    detail = _means([o.detail for o in verdicts])
    return Score(
        value=min(1.0, max(0.0, sum(values) / len(values))),
        label=first.label if len(verdicts) == 1 else None,
        explanation=first.reason,
        detail={**detail, "repeats": len(verdicts)} if len(verdicts) > 1 else detail,
        spent=spent,
        standard_error=standard_error(values),
        distribution=_means(shares) if len(shares) == len(verdicts) else None,
    )


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = sum(values) / n
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each name over all rows; a row without the name counts as 0."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: sum(row.get(name, 0.0) for row in rows) / len(rows) for name in names}
