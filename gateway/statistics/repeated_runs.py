"""The variance of scores in two parts: between items, and between the runs of one item."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.statistics.domains import at_least, vector


@dataclass(frozen=True, slots=True)
class VarianceSplit:
    """The variance of one model's scores in two parts."""

    between: float
    """Variance of the items' expected scores; 0 where it is estimated to be negative."""
    within: float
    """Mean variance of the runs of one item."""
    of_means: float
    """Variance that runs add to an item's mean: within times the mean of 1 / runs."""
    items: int
    repeated: int
    """Items with two runs or more, which `within` is from."""


def variance_split(runs: Sequence[Sequence[float]]) -> VarianceSplit | None:
    """Var(score) = Var over items of E(score) + E over items of Var(score); each estimated without bias.

    runs: the scores of each item, one or more finite numbers; at least 2 items. within is pooled over the items with
    two runs or more: sum of squared deviations / sum of (runs - 1). between is the variance of the items' means less
    of_means. None if no item has two runs. Raises ValueError outside these domains.
    Source: Miller 2024, "Adding error bars to evals", arXiv:2411.00640, section 3 (the law of total variance).
    """
    values = [vector("runs of an item", each, 1) for each in runs]
    at_least("number of items", len(values), 2)
    freedom = sum(each.size - 1 for each in values)
    if not freedom:
        return None
    within = sum(float(((each - each.mean()) ** 2).sum()) for each in values) / freedom
    of_means = within * sum(1.0 / each.size for each in values) / len(values)
    means = vector("means", [float(each.mean()) for each in values], 2)
    between = max(0.0, float(means.var(ddof=1)) - of_means)
    return VarianceSplit(between, within, of_means, len(values), sum(each.size > 1 for each in values))
