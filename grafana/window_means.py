"""PromQL for the mean of a time window and its 95 % interval, from the counters of closed weights.

The same figures as gateway/statistics/sampled_mean.py, over what was closed within the window. The ends are not
cut at the smallest and largest possible score.
"""

from __future__ import annotations

import math
from typing import Literal

from gateway.statistics.asymptotic import Tuning, best_rho

BY = "scorer, model, arm"
BY_ALIAS = "alias, upstream, model, scorer, arm"
_TUNING = Tuning()
_RHO_SQUARED = best_rho(_TUNING.alpha, _TUNING.n_star) ** 2


def window_mean(selector: str, window: str, by: str = BY) -> str:
    """PromQL of the mean. selector, window: as "{scorer=\"a\"}" and "[5m]". by: BY, or BY_ALIAS for those of
    aliases."""
    total, weight = (f"max by ({by}) (rate({_family(by)}_{name}_total{selector}{window}))"
                     for name in ("weighted_sum", "weight"))  # fmt: skip
    return f"{total} / ({weight} > 0)"


def window_bound(end: Literal["low", "high"], selector: str, window: str, by: str = BY) -> str:
    """One end of the mean's interval; no value below the burn-in. Computed for each consumer, since the sums of two
    scrapes do not fit together."""

    def grown(name: str) -> str:
        return f"increase({_family(by)}_{name}_total{selector}{window})"

    weight = grown("weight")
    mean = f"({grown('weighted_sum')} / {weight})"
    sizes, products, squares = (grown(f"unit_{name}") for name in ("weight_squares", "products", "squares"))
    n = f"({weight} ^ 2 / {sizes})"
    growth = f"(1 + {_RHO_SQUARED:.9g} * {n})"
    width = f"({growth} * (ln({growth}) + {-2 * math.log(_TUNING.alpha):.9g}) / ({_RHO_SQUARED:.9g} * {n} ^ 2))"
    spread = f"clamp_min({squares} - 2 * {mean} * {products} + {mean} ^ 2 * {sizes}, 0) / {sizes}"
    half = f"sqrt({width} * ({spread} + {_family(by)}_range{selector} ^ 2 * {width} / 4))"
    sign, outer = ("-", "min") if end == "low" else ("+", "max")
    return f"{outer} by ({by}) (({mean} {sign} {half}) and {n} >= {_TUNING.burn_in:g})"


def window_n(selector: str, window: str, by: str = BY) -> str:
    """PromQL of the effective number of scores in the window: equally weighted units with the same information."""
    weight, sizes = (
        f"increase({_family(by)}_{name}_total{selector}{window})" for name in ("weight", "unit_weight_squares")
    )
    return f"max by ({by}) ({weight} ^ 2 / ({sizes} > 0))"


def _family(by: str) -> str:
    return "gateway_eval_alias_score" if by == BY_ALIAS else "gateway_eval_score"
