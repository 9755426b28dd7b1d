"""Pure arithmetic. No I/O.

The names below are a public library, which docs/statistics-api.md describes and Semantic Versioning covers. They are
imported when they are used, from numpy and the standard library alone. The modules in this folder are not public.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.core.horizon import planned_pairs
    from gateway.statistics.agreement import Kappa, cohen_kappa, krippendorff_alpha
    from gateway.statistics.asymptotic import AsymptoticMean, Tuning
    from gateway.statistics.bernoulli import bernoulli_interval
    from gateway.statistics.betting import BettingMean
    from gateway.statistics.bradley_terry import Duels, Strengths, fit_bradley_terry
    from gateway.statistics.change_detection import ChangeDetector, usual_range
    from gateway.statistics.empirical_bernstein import EmpiricalBernstein
    from gateway.statistics.evalues import BettingTest, e_bh
    from gateway.statistics.false_discovery import benjamini_hochberg
    from gateway.statistics.hybrid import GuardedMean, HybridMean
    from gateway.statistics.judge_rates import CorrectedRate, JudgeAccuracy, corrected_rate
    from gateway.statistics.paired import (
        MeanWithError,
        PairedDifference,
        mcnemar_exact,
        mean_error,
        paired_difference,
        wilson,
    )
    from gateway.statistics.quantiles import quantile_ranks
    from gateway.statistics.rare import RareDifference
    from gateway.statistics.repeated_runs import VarianceSplit, variance_split
    from gateway.statistics.sampled_mean import StratumSums, WeightedEstimate, weighted_mean
    from gateway.statistics.score_interval import ScoreDifference, few_differences, score_difference
    from gateway.statistics.srm import SequentialRatio

__all__ = [
    "AsymptoticMean",
    "BettingMean",
    "BettingTest",
    "ChangeDetector",
    "CorrectedRate",
    "Duels",
    "EmpiricalBernstein",
    "GuardedMean",
    "HybridMean",
    "JudgeAccuracy",
    "Kappa",
    "MeanWithError",
    "PairedDifference",
    "RareDifference",
    "ScoreDifference",
    "SequentialRatio",
    "StratumSums",
    "Strengths",
    "Tuning",
    "VarianceSplit",
    "WeightedEstimate",
    "benjamini_hochberg",
    "bernoulli_interval",
    "cohen_kappa",
    "corrected_rate",
    "e_bh",
    "few_differences",
    "fit_bradley_terry",
    "krippendorff_alpha",
    "mcnemar_exact",
    "mean_error",
    "paired_difference",
    "planned_pairs",
    "quantile_ranks",
    "score_difference",
    "usual_range",
    "variance_split",
    "weighted_mean",
    "wilson",
]

_MODULES = {
    "gateway.core.horizon": ("planned_pairs",),
    "gateway.statistics.agreement": ("Kappa", "cohen_kappa", "krippendorff_alpha"),
    "gateway.statistics.asymptotic": ("AsymptoticMean", "Tuning"),
    "gateway.statistics.bernoulli": ("bernoulli_interval",),
    "gateway.statistics.betting": ("BettingMean",),
    "gateway.statistics.bradley_terry": ("Duels", "Strengths", "fit_bradley_terry"),
    "gateway.statistics.change_detection": ("ChangeDetector", "usual_range"),
    "gateway.statistics.empirical_bernstein": ("EmpiricalBernstein",),
    "gateway.statistics.evalues": ("BettingTest", "e_bh"),
    "gateway.statistics.false_discovery": ("benjamini_hochberg",),
    "gateway.statistics.hybrid": ("GuardedMean", "HybridMean"),
    "gateway.statistics.judge_rates": ("CorrectedRate", "JudgeAccuracy", "corrected_rate"),
    "gateway.statistics.paired": (
        "MeanWithError",
        "PairedDifference",
        "mcnemar_exact",
        "mean_error",
        "paired_difference",
        "wilson",
    ),
    "gateway.statistics.quantiles": ("quantile_ranks",),
    "gateway.statistics.rare": ("RareDifference",),
    "gateway.statistics.repeated_runs": ("VarianceSplit", "variance_split"),
    "gateway.statistics.sampled_mean": ("StratumSums", "WeightedEstimate", "weighted_mean"),
    "gateway.statistics.score_interval": ("ScoreDifference", "few_differences", "score_difference"),
    "gateway.statistics.srm": ("SequentialRatio",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}


def module_of(name: str) -> str:
    """The module that defines a public name. Raises KeyError."""
    return _WHERE[name]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
