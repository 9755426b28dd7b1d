"""What a switch does to the cost of cached input. Pure.

A shadow never has the cache that served calls fill, so a candidate's cost is that without it. Served, it lies between
that and the cost with as much of the input cached as the control has. What a ramp's arm is billed replaces this range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.core.prices import Price
from gateway.reports.number_format import NARROW, number, share

COLDER = 0.1
"""Difference of the cached shares of two arms from which their costs are not those of one cache."""
BILLED_CALLS = 100
"""Served calls of the candidate from which their bill replaces the range."""


@dataclass(frozen=True)
class ArmBill:
    """Sums over an arm's calls that have usage with cached tokens and a price."""

    calls: int
    input_tokens: int
    cached_tokens: int
    usd: float

    @property
    def cached_share(self) -> float:
        """Cached tokens by input tokens. 0.0 without input."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else 0.0

    @property
    def usd_per_call(self) -> float:
        return self.usd / self.calls if self.calls else 0.0

    def with_cached_share(self, cached: float, price: Price) -> ArmBill:
        """The bill of the same calls with another share of their input cached. Output is priced as it was."""
        tokens = round(cached * self.input_tokens)
        saved = price.input - (price.input if price.cached_input is None else price.cached_input)
        usd = self.usd - (tokens - self.cached_tokens) * saved / 1e6
        return ArmBill(self.calls, self.input_tokens, tokens, usd)


def cache_caution(
    control: ArmBill | None, candidate: ArmBill | None, price: Price | None = None, served: ArmBill | None = None
) -> Iterator[str]:
    """Caution on a cost with a served cache on one side and a shadow's on the other.

    price: of the candidate; None if unknown. served: the candidate's own served calls, of a ramp.
    """
    if control is None or candidate is None or control.cached_share - candidate.cached_share < COLDER:
        return
    shares = (
        f"{share(control.cached_share)} of the control's input is cached, and {share(candidate.cached_share)} of the "
        "candidate's: a shadow never has the served cache."
    )
    yield f"{shares} {_expected(control, candidate, price, served)}"


def _expected(control: ArmBill, candidate: ArmBill, price: Price | None, served: ArmBill | None) -> str:
    if served is not None and served.calls >= BILLED_CALLS:
        return (
            f"Served in the ramp, the candidate was billed {_change(control, served)} a call, with "
            f"{share(served.cached_share)} of the input cached. The control's calls are those of the pairs: other "
            "hours and other requests may explain a part of the difference."
        )
    if price is None:
        return (
            "The candidate's cost is that without it; served, it costs less if its provider caches, which the ramp's "
            "arm is billed."
        )
    cold = candidate.with_cached_share(0.0, price)
    warm = candidate.with_cached_share(control.cached_share, price)
    if price.cached_input is None:
        return (
            f"The candidate's price has no discount for cached input: served, it costs {_change(control, cold)} a call."
        )
    return (
        f"Served, the candidate costs {_change(control, warm)} a call if as much of its input is cached, and "
        f"{_change(control, cold)} if nothing is. The ramp's arm is billed what holds."
    )


def _change(control: ArmBill, other: ArmBill) -> str:
    """ "41 % less", "9 % more" or "the same"."""
    if not control.usd_per_call:
        return f"${other.usd_per_call:.2g}"
    percent = round(100 * (other.usd_per_call / control.usd_per_call - 1))
    return "the same" if not percent else f"{number(abs(percent), 0)}{NARROW}% {'less' if percent < 0 else 'more'}"
