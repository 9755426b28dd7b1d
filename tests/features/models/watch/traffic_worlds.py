"""Months of simulated traffic of one target, as the sums that its watch keeps: nothing of the watch's code is in it.

Users come in clusters, each with a level of its own; some begin or leave; there are bursts, a wave of days and weeks, a
mix of short and long prompts that moves, hours that differ with a memory of three, incidents, and a customer who begins
later, with answers of another kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.features.models.watch.cells import OTHERS, CellHours, TrafficCell
from gateway.statistics.adjusted_means import DAY_H, HourlySums

SERIES = (
    *("failures", "refusals", "length", "tokens", "invalid tool calls", "first token", "cached share"),
    *("score judge 1.abc", "prompt length"),
)
RATES: Mapping[int, float] = {0: 0.01, 1: 0.01, 4: 0.02, 7: 0.9}
DEVIATIONS: Mapping[int, float] = {2: 0.8, 3: 0.7, 5: 0.5, 6: 0.3, 8: 0.6}
LONG_PROMPTS = np.array([0.1, 0.1, 0.6, 0.6, -0.2, 0.4, 0.5, -0.4, 1.0])  # effects, in standard deviations
TOOLS = 0.2  # share of the calls with tool calls
FIRST_HOUR = 504_000
MOST_CUSTOMERS = 24
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A planted change: what is added to the series, by their place, from an hour on."""

    hour: int
    effects: Mapping[int, float]
    customer: int | None = None
    """The place among the users, by their calls, of the only one that it concerns; None: all."""


@dataclass(frozen=True)
class TrafficWorld:
    """A target's traffic. None: drawn."""

    days: int
    rate: float | None = None
    users: int | None = None
    correlation: float | None = None
    """Share of the variance of a value that is between users."""
    named: bool | None = None
    """Calls name their users; False: only one of three keys."""
    newcomer: bool | None = None
    change: Change | None = None
    calm: bool = False
    """Neither clusters, bursts, users who come and go, hours that differ, incidents, nor a mix that moves."""

    def drawn(self, generator: np.random.Generator) -> CellHours:
        hours = np.arange(self.days * DAY_H)
        named = bool(generator.random() < 0.5) if self.named is None else self.named
        users = self.users or (int(generator.choice([6, 15, 30])) if named else 30)
        newcomer = bool(generator.random() < 0.5) if self.newcomer is None else self.newcomer
        icc = float(generator.choice([0.02, 0.1, 0.3])) if self.correlation is None else self.correlation
        counts = self._counts(generator, hours, users, named, newcomer)
        levels = _levels(generator, hours, (counts.shape[1], icc), newcomer, self.calm)
        values = self._values(generator, hours, counts, levels, icc)
        return _cells(generator, hours, counts, values, named, newcomer)

    def _counts(
        self, generator: np.random.Generator, hours: NDArray[np.int64], users: int, named: bool, newcomer: bool
    ) -> Array:
        """Calls by hour, user and form of the prompt."""
        rate = self.rate or float(np.exp(generator.uniform(np.log(4), np.log(200))))
        wave = 1 + generator.uniform(0.2, 0.8) * np.sin(2 * np.pi * (hours - generator.integers(24)) / 24)
        week = np.where(hours // DAY_H % 7 >= 5, generator.uniform(0.2, 0.9), 1.0)
        burst = np.where(generator.random(len(hours)) < 0.02, 6.0, 1.0)
        level = wave * week * (1.0 if self.calm else burst)
        share = generator.dirichlet(np.full(users, 0.3 if named and generator.random() < 0.5 else 2.0))
        start = np.where(generator.random(users) < 0.5, 0, generator.integers(0, len(hours), users))
        stay = generator.integers(7 * DAY_H, max(len(hours), 8 * DAY_H), users)
        end = np.where(generator.random(users) < 0.5, len(hours), start + stay)
        active = share * ((hours[:, None] >= start) & (hours[:, None] < end))
        total = active.sum(axis=1, keepdims=True)
        active = np.where((total > 0) & (not self.calm), active / np.maximum(total, 1e-9), share)
        if newcomer:
            begins = hours >= generator.integers(20 * DAY_H, max(len(hours), 21 * DAY_H))
            part = generator.uniform(0.1, 0.5) * begins
            active = np.concatenate([active * (1 - part)[:, None], part[:, None]], axis=1)
        active = active * (1.0 if self.calm else generator.gamma(0.5, 2.0, active.shape))
        calls = generator.poisson((level * rate / level.mean())[:, None] * active)
        moves = generator.random() < 0.5 and not self.calm
        long = np.linspace(0.1, 0.1 + generator.uniform(0.2, 0.7), len(hours)) if moves else np.full(len(hours), 0.3)
        own = np.clip(generator.normal(0, 0.15, active.shape[1]), -0.3, 0.3)
        of_long = generator.binomial(calls, np.clip(long[:, None] + own, 0.02, 0.98))
        return np.stack([calls - of_long, of_long], axis=2).astype(np.float64)

    def _values(
        self, generator: np.random.Generator, hours: NDArray[np.int64], counts: Array, levels: Array, icc: float
    ) -> Array:
        """Σ 1, Σ value and Σ value² by hour, user, form and series."""
        found = np.zeros((*counts.shape, len(SERIES), 3))
        incident = np.where(generator.random(len(hours)) < (0.0 if self.calm else 0.004), 0.3, 0.0)
        for k in range(len(SERIES)):
            n = counts if k != 4 else generator.binomial(counts.astype(np.int64), TOOLS).astype(np.float64)
            level = levels[:, :, None, k] + LONG_PROMPTS[k] * np.array([0.0, 1.0])
            added = self._added(hours, counts, k)
            if k in RATES:
                p = RATES[k]
                spread = np.sqrt(p * (1 - p)) * (0.3 if p < 0.05 or p > 0.95 else 1.0)
                chance = p + spread * level + added + (incident[:, None, None] if k == 0 else 0.0)
                total = generator.binomial(n.astype(np.int64), np.clip(chance, 0.0005, 0.9995)).astype(np.float64)
                squares = total
            else:
                mean = (0.4 if k == 6 else 5.0) + DEVIATIONS[k] * level + added
                mean = np.clip(mean, 0.0, 1.0) if k == 6 else mean
                within = 0.2 if k == 6 else DEVIATIONS[k] * np.sqrt(max(1.0 - icc, 0.1))
                total = n * mean + np.sqrt(n) * within * generator.standard_normal(n.shape)
                squares = n * (mean**2 + within**2)
            found[..., k, :] = np.stack([n, total, squares], axis=-1)
        return found

    def _added(self, hours: NDArray[np.int64], counts: Array, k: int) -> Array:
        if self.change is None:
            return np.zeros((1, 1, 1))
        concerned = np.ones(counts.shape[1])
        if self.change.customer is not None:
            order = np.argsort(-counts.sum(axis=(0, 2)))
            concerned = np.zeros(counts.shape[1])
            concerned[order[self.change.customer]] = 1.0
        since = (hours >= self.change.hour)[:, None] * concerned
        return np.asarray(self.change.effects.get(k, 0.0) * since[..., None])


def _levels(
    generator: np.random.Generator, hours: NDArray[np.int64], users: tuple[int, float], newcomer: bool, calm: bool
) -> Array:
    """The levels of users and hours in standard deviations, by hour, user and series. users: their number, and the
    correlation within them."""
    of_users = generator.normal(0, np.sqrt(users[1]), (users[0], len(SERIES)))
    if newcomer:
        of_users[-1] = 0.8 * generator.standard_normal(len(SERIES))
    size, kept = float(generator.choice([0.0, 0.05, 0.15])), np.exp(-1 / 3)
    drawn = generator.standard_normal((len(hours), len(SERIES)))
    of_hours = np.zeros_like(drawn)
    for i in range(1, len(hours)):
        of_hours[i] = kept * of_hours[i - 1] + np.sqrt(1 - kept**2) * drawn[i]
    wave = np.zeros((len(hours), len(SERIES)))
    wave[:, 5] = 0.4 * np.sin(2 * np.pi * (hours - 15) / 24)
    return np.asarray(of_users + ((0.0 if calm else size) * of_hours + wave)[:, None])


def _cells(
    generator: np.random.Generator,
    hours: NDArray[np.int64],
    counts: Array,
    values: Array,
    named: bool,
    newcomer: bool,
) -> CellHours:
    """The sums by customer: the users with the most calls and the others, or the keys that users share."""
    users = counts.shape[1]
    if named:
        customer = np.full(users, MOST_CUSTOMERS)
        most = np.argsort(-counts.sum(axis=(0, 2)))[:MOST_CUSTOMERS]
        customer[most] = np.arange(len(most))
    else:
        customer = generator.integers(0, 3, users)
        customer[-1] = 3 if newcomer else customer[-1]
    groups = (customer == np.arange(int(customer.max()) + 1)[:, None]).astype(np.float64)
    of_unit = values[..., 0] * (values[..., 0].sum(axis=2, keepdims=True) if named else 1.0)
    sums = np.concatenate([values, values[..., :1], of_unit[..., None]], axis=-1)
    strata = np.einsum("gu,hufks->hgfks", groups, sums, optimize=True)
    calls = np.einsum("gu,huf->hgf", groups, counts)
    names = [OTHERS if named and place == MOST_CUSTOMERS else f"c{place}" for place in range(len(groups))]
    cells = [TrafficCell(name, form) for name in names for form in ("chat 0", "chat 1")]
    at = hours + FIRST_HOUR
    flat = strata.reshape(len(hours), len(cells), len(SERIES), -1)
    return CellHours(cells, SERIES, HourlySums(at, flat), calls.reshape(len(hours), -1), at)
