"""The price of a verdict, for `gateway ab power`: a few lines of text, a chart of bars, or JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import NotRequired, TypedDict, cast

from gateway.reports import number_format as say
from gateway.verdict.continuation import MorePrice
from gateway.verdict.price.best_of_k import BestPrice
from gateway.verdict.price.forecast import PowerForecast, VerdictPrice
from gateway.verdict.price.powers import EFFECTS, Power
from gateway.verdict.price.terms import PriceTerm

_EFFECTS = {1.0: "as good, or 2 margins worse", 1.5: "½ margin better, or 2½ worse", 2.0: "1 margin better, or 3 worse"}
_BAR = 40  # characters
_MOST_CONDITIONS = 8


class WaitsForOutput(TypedDict):
    metric: str
    candidate: str


class PowerOutput(TypedDict):
    """The price of a verdict, by condition and as a whole."""

    metrics: list[Power]
    """The conditions of the verdict."""
    a_day: float | None
    """Settled pairs per day: as stated, else as measured; None if unknown."""
    have: int
    """Settled pairs so far."""
    prices: list[VerdictPrice]
    """Prices at 1, 1.5 and 2 times the planned effect."""
    terms: list[PriceTerm]
    """Additional terms of a verdict or a ramp: hours, units, completeness, a ramp's proof on served answers,
    holdout."""
    best: NotRequired[BestPrice]
    """Price of the best candidate; only of plans that find the best of several."""
    needed: int | None
    """Settled pairs in total at the planned effect; None if unknown yet."""
    waits_for: WaitsForOutput | None
    """The condition that needs the most."""


def to_dict(found: PowerForecast) -> PowerOutput:
    slowest = found.slowest
    fields = asdict(found)
    if found.best is None:  # other forecasts stay as they were
        del fields["best"]
    waits = None if slowest is None else {"metric": slowest.metric, "candidate": slowest.candidate}
    return cast(PowerOutput, {**fields, "needed": found.needed, "waits_for": waits})


def lines(name: str, found: PowerForecast, *, chart: bool = False, by_run: bool = False) -> list[str]:
    """The price in at most 22 lines, unless there are many candidates or the chart is drawn.

    by_run: a split whose units are runs: they take the place of pairs, and the number of requests of a run is unknown.
    """
    if not found.metrics:
        return [f"{name}: no primary metric and no guardrail, so there is nothing to decide"]
    also = [f"{term.name}: {term.says}." for term in found.terms]
    prices = [replace(price, requests=None) for price in found.prices] if by_run else found.prices
    shown = replace(found, prices=tuple(prices))
    made = [_headline(name, shown), *_prices(prices), *(_chart(found) if chart else _conditions(found)), *also]
    return [re.sub(r"\bpair(s?)\b", r"run\1", line) for line in made] if by_run else made


def more_line(price: MorePrice) -> str:
    """The price of going on: "about 12 000 more pairs: 8 hours, about $3.10"; also of what may not be enough."""
    parts = [say.span(price.hours / 24.0)] if price.hours is not None else []
    parts += [f"about {say.dollars(price.usd)}"] if price.usd is not None else []
    cost = f": {', '.join(parts)}" if parts else ""
    left = "" if price.enough else "; they may not decide it, since the difference is close to the margin"
    return f"about {say.counted(price.pairs, 'more pair')}{cost}{left}"


def _headline(name: str, found: PowerForecast) -> str:
    price, slowest = found.prices[0], found.slowest
    if price.pairs is None or slowest is None:
        least = slowest.metric if slowest else "a metric"
        return f"{name}: the number of pairs is unknown yet: {least} has no variance, or needs too many."
    parts = [say.counted(price.requests, "request")] if price.requests is not None else []
    parts += [say.counted(price.paid_calls, "paid call")] if price.paid_calls else []
    parts += [say.span(price.days)] if price.days is not None else []
    left = f" ({say.count(found.have)} so far)" if found.have else ""
    waits = f"the gate {slowest.metric}" if slowest.role == "gate" else slowest.metric
    waits = f"{waits} between candidates" if slowest.role == "duel" else waits
    cost = f": {', '.join(parts)}" if parts else ""
    return f"A verdict on {name} needs about {say.counted(price.pairs, 'pair')}{left}{cost}. It waits for {waits}."


def _prices(prices: Sequence[VerdictPrice]) -> list[str]:
    rows = [("if the candidate is …", "ship: pairs", "requests", "paid calls", "time", "reject: pairs")]
    rows += [
        (
            _EFFECTS[each.effect],
            _number(each.pairs),
            say.NONE if each.requests is None and each.pairs is not None else _number(each.requests),
            _number(each.paid_calls),
            say.NONE if each.days is None else say.span(each.days),
            _number(each.reject_pairs),
        )
        for each in prices
    ]
    return _columns(rows)


def _conditions(found: PowerForecast) -> list[str]:
    shown = sorted(found.metrics, key=lambda p: -(p.pairs[0] or 1e18 if p.pairs else 0))[:_MOST_CONDITIONS]
    several = len({each.candidate for each in found.metrics}) > 1
    rows = [("condition", "margin", "have", "needed", "values a pair", "pairs", "variance from")]
    rows += [
        (
            _condition(each) + (f", {each.candidate}" if several else ""),
            f"{each.margin:g}",
            say.count(each.have),
            _number(each.needed),
            f"{each.per_pair:.2g}",
            _number(each.pairs[0] if each.pairs else None),
            each.basis,
        )
        for each in shown
    ]
    more = len(found.metrics) - len(shown)
    return [*_columns(rows, text=(0, 6)), *([f"and {more} quicker ones"] if more else [])]


def _condition(each: Power) -> str:
    """ "guardrail error_rate"; a segment's name begins with its role."""
    return each.metric if each.role == "segment" else f"{each.role} {each.metric}"


def _chart(found: PowerForecast) -> Iterator[str]:
    """A bar for each condition: █ pairs so far, ░ pairs still needed."""
    most = max((each.pairs[0] or 0 for each in found.metrics if each.pairs), default=0) or 1
    width = max(len(_named(each)) for each in found.metrics)
    for each in found.metrics:
        total = each.pairs[0] if each.pairs else None
        if total is None:
            yield f"{_named(each):<{width}}  unknown"
            continue
        bar = max(1, round(_BAR * total / most))
        full = min(bar, round(_BAR * min(found.have, total) / most))
        yield f"{_named(each):<{width}}  {'█' * full}{'░' * (bar - full)} {say.count(total)} pairs"
    yield f"█ so far  ░ still needed, at {EFFECTS[0]:g} × the planned effect"


def _named(each: Power) -> str:
    return f"{each.candidate} {_condition(each)}"


def _number(n: int | None) -> str:
    return "too many" if n is None else say.count(n)


def _columns(rows: Sequence[Sequence[str]], text: tuple[int, ...] = (0,)) -> list[str]:
    """Aligned columns. text: the indexes of those that are aligned to the left."""
    columns = [[row[i] for row in rows] for i in range(len(rows[0]))]
    aligned = [_aligned(column, i in text) for i, column in enumerate(columns)]
    return ["  ".join(cells).rstrip() for cells in zip(*aligned, strict=True)]


def _aligned(column: Sequence[str], left: bool) -> list[str]:
    width = max(map(len, column))
    return [cell.ljust(width) if left else cell.rjust(width) for cell in column]
