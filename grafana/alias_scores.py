"""Scores by alias and target: which alias got worse, and at which of its targets."""

from __future__ import annotations

from panels import Panel, Query, Row, estimate
from window_means import BY_ALIAS, window_bound, window_mean, window_n

RATE = "[$__rate_interval]"
SCORE = '{scorer=~"$scorer"}'
OF_WINDOW = "{{alias}} → {{upstream}}/{{model}} {{scorer}}"
OF = "{{alias}} → {{upstream}}/{{model}} {{scorer}} {{arm}}"


def recorded(name: str) -> str:
    return f"last_over_time(gateway:score_objective_{name}{SCORE}[16m])"


ALIASES = Row("Scores by alias", [
    Panel("Mean by alias", [*estimate("gateway_eval_alias_score_mean", SCORE, BY_ALIAS, OF),
                            Query(f"max by ({BY_ALIAS}) (gateway_eval_alias_score_effective_samples{SCORE})", f"n {OF}", dashed=True, unit="short")],
          "How good an alias's answers are at each target: the mean over all of its traffic since this version of the scorer runs. With 95 % certainty the truth lies between the dashed lines, however often you look. On the right: how many scores the mean is worth (Kish).", width=12),
    Panel("Mean by alias in the window", [Query(window_mean(SCORE, RATE, BY_ALIAS), OF),
                                          Query(window_bound("low", SCORE, RATE, BY_ALIAS), f"low {OF}", dashed=True),
                                          Query(window_bound("high", SCORE, RATE, BY_ALIAS), f"high {OF}", dashed=True),
                                          Query(window_n(SCORE, RATE, BY_ALIAS), f"n {OF}", dashed=True, unit="short")],
          "Weighted mean of the scores in each time step, with its 95 % interval: the line that falls names the alias and the target that got worse. On the right: how many scores it is worth; below 30 there is no interval, so take a longer time range.", width=12),
    Panel("Scores and their objectives", [
        Query(recorded("mean"), f"{{{{window}}}} {OF_WINDOW}"), Query(recorded("upper"), f"upper end, {{{{window}}}} {OF_WINDOW}", dashed=True),
        Query(recorded("effective_samples"), f"n, {{{{window}}}} {OF_WINDOW}", dashed=True, unit="short"),
        Query(f"max by (alias, scorer) (gateway_eval_alias_score_objective{SCORE})", "objective {{alias}} {{scorer}}", dashed=True)],
          "How good the answers of the last hour, six hours and three days are, next to `models.NAME.score_objectives`. The alert rings when even the upper end of a mean (at z = 4) is below the objective, three times a quarter of an hour apart. On the right: how many scores each mean is worth.", width=12),
])  # fmt: skip
