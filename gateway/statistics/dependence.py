"""Whether values depend on each other within groups, and the variance that their mean has if they do.

A group is everything of one user, key or prompt (`UnitDispersion`), or of one block of time (`BlockDispersion`). Groups
of several kinds may cross each other (`CrossedDispersion`). All keep sums only: the variance of the mean that holds if
values of one group depend on each other in any way (Liang & Zeger 1986, Biometrika 73(1)), and a test of whether they
do, which is valid after every value. The one-way analysis of variance asks whether products of deviations within a
group add up to more than 0; here each value's deviation is multiplied by the sum of the earlier ones of its group, so
that without dependence every term has mean 0 given the past. The terms' own squares bound their variance (a
self-normalised sum), which heavy-tailed values need, and so does the prediction from the values' variance, which rare
ones need: a run of equal products shows that nothing has happened yet.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from gateway.statistics.asymptotic import best_rho, sum_width
from gateway.statistics.stored_state import State, dump, load

ALARM = 0.05  # the probability that the test is ever wrong
FEWEST_TERMS = 20  # values with an earlier one in their group, before the test may raise an alarm
FEWEST_GROUPS = 10  # units with two values or more, before the same
FEWEST_UNITS = 3.0  # as many equally large units, before their sums have a variance
FEWEST_BLOCKS = 3  # blocks, before the same: a burst in the first hour is to be noticed in the first hour
CHECKED_GROUPS = 50  # such groups from which independence counts as checked
BUCKETS = 512  # units beyond this many share their sums: that leaves the variance unbiased, and the state small
BLOCK_S = 900.0  # seconds of Unix time, so that no clock change makes a block longer or shorter
_NAMES = 4096  # that tell the units of one bucket apart
_TIGHTEST = 500.0  # terms at which the test is most sensitive
_UNSEEN = 3.4  # products that count as not seen yet, as large as the largest deviation makes one
_Z = 2.05  # of the last look, at which the normal and Student's quantiles are compared


@dataclass(slots=True)
class Dispersion:
    """Sums over groups. S, k: the sum and the number of the values of a group."""

    n: int = 0
    single: float = 0.0  # of the squares of the values
    squares: float = 0.0  # of S
    cross: float = 0.0  # of k S
    sizes: float = 0.0  # of k^2
    products: float = 0.0  # of deviations and the earlier deviations of their group
    noise: float = 0.0  # of the squares of these products
    reach: float = 0.0  # of the squares of the earlier deviations
    peak: float = 0.0  # the largest square of a deviation
    terms: int = 0  # values with an earlier one in their group
    earlier: int = 0  # over these, the number of earlier ones
    alarm: bool = False  # the test has raised an alarm; it is never taken back

    def take(self, value: float, mean: float, size: int, total: float) -> None:
        """Takes the next value. mean: of all values before it. size, total: k and S of its group before it."""
        after = total + value
        self.n += 1
        self.single += value * value
        self.squares += after * after - total * total
        self.cross += (size + 1) * after - size * total
        self.sizes += 2 * size + 1
        self.peak = max(self.peak, (value - mean) ** 2)
        if size:
            before = total - size * mean
            product = (value - mean) * before
            self.products += product
            self.noise += product * product
            self.reach += before * before
            self.terms += 1
            self.earlier += size

    def test(self, mean: float) -> None:
        """Raises the alarm once the products add up to more than chance explains at any look. mean: of all values."""
        if self.alarm or self.products <= 0 or self.terms < FEWEST_TERMS:
            return
        variance = self.variance(mean)
        noise = max(self.noise, variance * self.reach) + _UNSEEN * variance * self.peak
        width = sum_width(self.terms, best_rho(2 * ALARM, _TIGHTEST), 2 * ALARM)
        self.alarm = self.products > math.sqrt(noise / self.terms) * width

    def m2(self, mean: float) -> float:
        """n^2 times the variance of the mean of all values, if those of one group depend on each other.

        mean: of all values. With few groups it has Student's correction, at the Kish number of equally large groups;
        infinity for fewer than three.
        """
        return self.spread(mean) * _student(self.groups - 1) ** 2 if self.groups >= FEWEST_UNITS else math.inf

    def spread(self, mean: float) -> float:
        """Returns `m2` without Student's correction, for intervals that have Student's quantile themselves."""
        groups = self.groups
        if groups < FEWEST_UNITS:
            return math.inf
        raw = max(0.0, self.squares - 2 * mean * self.cross + mean * mean * self.sizes)
        return raw * groups / (groups - 1)

    def variance(self, mean: float) -> float:
        """The variance of one value. mean: of all values."""
        return max(0.0, self.single / self.n - mean * mean) if self.n else 0.0

    @property
    def groups(self) -> float:
        """The number of equally large groups that would say as much."""
        return self.n * self.n / self.sizes if self.sizes else 0.0

    @property
    def largest(self) -> float:
        """The mean size of the group of a value."""
        return self.sizes / self.n if self.n else 1.0

    def correlation(self, mean: float) -> float | None:
        """The intraclass correlation, from the mean of the products. mean: of all values. None if not known."""
        variance = self.variance(mean)
        if not self.earlier or not variance:
            return None
        return min(1.0, max(-1.0, self.products / self.earlier / variance))


def _student(df: float) -> float:
    """Student's quantile in units of the normal one (Cornish-Fisher, Abramowitz & Stegun 26.7.5)."""
    z = _Z
    return (z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df * df)) / z


@dataclass(frozen=True, slots=True)
class CrossedDispersion:
    """Sums over groups of several kinds that cross each other, such as users and prompts, over the same values.

    The variance of the mean is that of Cameron, Gelbach & Miller (2011, J. Bus. Econ. Stat. 29(2)): the variances by
    kind are added, less that of independent values, which each of them contains; never below the largest. Values that
    share a group of every kind count as independent there, so that they are counted once too often, and not too seldom.
    """

    kinds: tuple[Dispersion, ...]

    @property
    def groups(self) -> float:
        """The smallest number of the kinds."""
        return min(kind.groups for kind in self.kinds)

    def m2(self, mean: float) -> float:
        """Returns what `Dispersion.m2` does."""
        return self.spread(mean) * _student(self.groups - 1) ** 2 if self.groups >= FEWEST_UNITS else math.inf

    def spread(self, mean: float) -> float:
        """Returns what `Dispersion.spread` does."""
        spreads = [kind.spread(mean) for kind in self.kinds]
        plain = self.kinds[0].n * self.kinds[0].variance(mean)
        return max(*spreads, sum(spreads) - (len(spreads) - 1) * plain)


@dataclass(slots=True)
class UnitDispersion:
    """Values by user, key or prompt. A value without a unit is a group of its own.

    rows: bucket → [k, S, the unit that came first, whether that unit has come again].
    """

    sums: Dispersion = field(default_factory=Dispersion)
    rows: dict[int, list[Any]] = field(default_factory=dict)
    named: int = 0  # values with a unit
    first: int = 0  # values whose unit was the first in its bucket
    again: int = 0  # of these, not the first of their unit
    repeated: int = 0  # units that came first in their bucket and have at least two values

    def add(self, value: float, unit: str | None, mean: float) -> None:
        """Takes the next value. mean: of all values before it."""
        if unit is None:
            self.sums.take(value, mean, 0, 0.0)
            return
        digest = crc32(unit.encode("utf-8", "surrogatepass"))
        name = digest // BUCKETS % _NAMES
        row = self.rows.setdefault(digest % BUCKETS, [0, 0.0, name, 0])
        self.sums.take(value, mean, row[0], row[1])
        self._count(row, name)
        row[0] += 1
        row[1] += value
        if self.repeated >= FEWEST_GROUPS:
            self.sums.test(mean)

    def _count(self, row: list[Any], name: int) -> None:
        self.named += 1
        if row[2] == name:
            self.first += 1
            self.again += row[0] > 0
            self.repeated += row[0] > 0 and not row[3]
            row[3] = int(row[0] > 0)

    @property
    def values_of_one(self) -> float:
        """The mean number of values of the unit of a value, without those that share its bucket by chance."""
        by_chance = self.named * (self.named - 1) / BUCKETS
        return max(1.0, (self.sums.sizes - by_chance) / self.sums.n) if self.sums.n else 1.0

    @property
    def checked(self) -> bool:
        """Enough units have several values, or nearly all have one, and at least half of the values have a unit."""
        if 2 * self.named < self.sums.n:
            return False
        single = self.named >= CHECKED_GROUPS and 10 * self.again <= self.first and 10 * self.named >= 9 * self.sums.n
        return self.repeated >= CHECKED_GROUPS or single

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        rows = [[*self.rows], *([row[i] for row in self.rows.values()] for i in range(4))]  # by column: quick to read
        counts = [self.named, self.first, self.again, self.repeated]
        return {"sums": dump(self.sums), "rows": rows, "counts": counts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "UnitDispersion":
        """Raises ValueError or KeyError if a field is missing or unknown."""
        buckets, *columns = state["rows"]
        rows = {bucket: list(row) for bucket, *row in zip(buckets, *columns, strict=True)}
        return cls(load(Dispersion, state["sums"]), rows, *state["counts"])


@dataclass(slots=True)
class BlockDispersion:
    """Values by block of time. Values come in order of time; one that is late counts with the newest block."""

    sums: Dispersion = field(default_factory=Dispersion)
    block: int = 0  # the newest
    size: int = 0  # values in it
    total: float = 0.0
    repeated: int = 0  # blocks with at least two values
    block_s: float = BLOCK_S

    def add(self, value: float, at: float, mean: float) -> None:
        """The next value. at: Unix seconds. mean: of all values before it."""
        block = int(at // self.block_s)
        if block > self.block:
            self.block, self.size, self.total = block, 0, 0.0
        self.sums.take(value, mean, self.size, self.total)
        self.size += 1
        self.total += value
        self.repeated += self.size == 2
        if self.repeated >= FEWEST_BLOCKS:
            self.sums.test(mean)

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        newest = [self.block, self.size, self.total, self.repeated]
        longer = {} if self.block_s == BLOCK_S else {"block_s": self.block_s}
        return {"sums": dump(self.sums), "newest": newest, **longer}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "BlockDispersion":
        """Raises ValueError or KeyError if a field is missing or unknown."""
        block, size, total, repeated = state["newest"]
        sums, block_s = load(Dispersion, state["sums"]), state.get("block_s", BLOCK_S)
        return cls(sums, block, size, total, repeated, block_s)
