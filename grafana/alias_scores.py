"""Scores by alias and target: which alias got worse, and at which of its targets."""

from __future__ import annotations

from panels import Panel, Query, Row, estimate
from window_means import BY_ALIAS, window_bound, window_mean

RATE = "[$__rate_interval]"
SCORE = '{scorer=~"$scorer"}'
OF_WINDOW = "{{alias}} → {{upstream}}/{{model}} {{scorer}}"
OF = "{{alias}} → {{upstream}}/{{model}} {{scorer}} {{arm}}"


def recorded(name: str) -> str:
    return f"last_over_time(gateway:score_objective_{name}{SCORE}[16m])"


ALIASES = Row("Scores by alias", [
    Panel("Mean by alias", estimate("gateway_eval_alias_score_mean", SCORE, BY_ALIAS, OF),
          "Weighted mean over all traffic of an alias at one target since this version of the scorer was deployed, with its 95 % confidence sequence.", width=12),
    Panel("Mean by alias in the window", [Query(window_mean(SCORE, RATE, BY_ALIAS), OF),
                                          Query(window_bound("low", SCORE, RATE, BY_ALIAS), f"low {OF}", dashed=True),
                                          Query(window_bound("high", SCORE, RATE, BY_ALIAS), f"high {OF}", dashed=True)],
          "Weighted mean of the scores in each time step, with its 95 % interval: the line that falls names the alias and the target that got worse. None below 30 effective scores: take a longer time range.", width=12),
    Panel("Effective sample size by alias", [Query(f"max by ({BY_ALIAS}) (gateway_eval_alias_score_effective_samples{SCORE})", OF)],
          "The number of equally weighted scores that carry the same information (Kish).", width=12),
    Panel("Scores and their objectives", [
        Query(recorded("mean"), f"{{{{window}}}} {OF_WINDOW}"), Query(recorded("upper"), f"upper end, {{{{window}}}} {OF_WINDOW}"),
        Query(f"max by (alias, scorer) (gateway_eval_alias_score_objective{SCORE})", "objective {{alias}} {{scorer}}")],
          "Mean of the last hour, six hours and three days for `models.NAME.score_objectives`, and the upper end of its interval at z = 4. The alert rings when that end is below the objective in three evaluations, a quarter of an hour apart.", width=12),
])  # fmt: skip
