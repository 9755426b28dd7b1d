"""Scores by alias and target: which alias got worse, and at which of its targets."""

from __future__ import annotations

from panels import Panel, Query, Row
from window_means import BY_ALIAS, window_bound, window_mean

RATE = "[$__rate_interval]"
SCORE = '{scorer=~"$scorer"}'
OF = "{{alias}} → {{upstream}}/{{model}} {{scorer}} {{arm}}"


def of_alias(name: str) -> str:
    return f"max by ({BY_ALIAS}) (gateway_eval_alias_score_{name}{SCORE})"


ALIASES = Row("Scores by alias", [
    Panel("Mean by alias", [Query(of_alias("mean"), OF), Query(of_alias("mean_low"), f"low {OF}"), Query(of_alias("mean_high"), f"high {OF}")],
          "Weighted mean over all traffic of an alias at one target since this version of the scorer was deployed, with its 95 % confidence sequence.", width=12),
    Panel("Mean by alias in the window", [Query(window_mean(SCORE, RATE, BY_ALIAS), OF),
                                          Query(window_bound("low", SCORE, RATE, BY_ALIAS), f"low {OF}"),
                                          Query(window_bound("high", SCORE, RATE, BY_ALIAS), f"high {OF}")],
          "Weighted mean of the scores in each time step, with its 95 % interval: the line that falls names the alias and the target that got worse. None below 30 effective scores: take a longer time range.", width=12),
    Panel("Effective sample size by alias", [Query(of_alias("effective_samples"), OF)],
          "The number of equally weighted scores that carry the same information (Kish).", width=12),
])  # fmt: skip
