"""Cost and limits: spending by team and tag, and how near keys, people, teams and organizations are to their limits."""

from __future__ import annotations

from panels import Dashboard, Panel, Query, Row, Variable, stat

RATE = "[$__rate_interval]"
TEAM = '{team=~"$team"}'
COST = f"rate(gateway_team_cost_usd_total{TEAM}{RATE})"
CALLS = f"rate(gateway_team_requests_total{TEAM}{RATE})"
UNPRICED = f"rate(gateway_team_unpriced_total{TEAM}{RATE})"
NEAR = ((None, "green"), (0.8, "orange"), (1.0, "red"))
UNKNOWN = ((None, "green"), (0.01, "orange"), (0.2, "red"))

NOW = Row("Now", [
    stat("Today", f"sum(increase(gateway_team_cost_usd_total{TEAM}[24h]))",
         "USD of the last 24 hours. `gateway usage` has the exact sums by day, key and tag.", "currencyUSD"),
    stat("Last 30 days", f"sum(increase(gateway_team_cost_usd_total{TEAM}[30d]))",
         "USD, as far back as Prometheus keeps its data.", "currencyUSD"),
    stat("Unknown cost", f"sum({UNPRICED}) / (sum({CALLS}) > 0)",
         "Share of calls whose price is missing: add the model to `prices`. They are not in the sums of this page.", "percentunit", UNKNOWN),
], opened=True)  # fmt: skip

TEAMS = Row("By team", [
    Panel("Cost", [Query(f"3600 * sum by (team) ({COST})", "{{team}}")],
          "USD per hour. none: keys without a team; other: teams after the 200th.", "currencyUSD", stacked=True),
    Panel("Cost of the last 30 days", [Query(f"sum by (team) (increase(gateway_team_cost_usd_total{TEAM}[30d]))", "{{team}}", instant=True)],
          "USD by team, as far back as Prometheus keeps its data.", "currencyUSD", "bargauge"),
    Panel("Calls and tokens", [Query(f"sum by (team) ({CALLS})", "{{team}}"),
                               Query(f'sum by (team) (rate(gateway_team_tokens_total{{team=~"$team", type=~"input|output"}}{RATE}))', "tokens, {{team}}", dashed=True, unit="short")],
          "Calls per second that reached an upstream, and on the right their input and output tokens per second.", "reqps", stacked=True),
    Panel("Cached share of the input",
          [Query(f'sum by (team) (rate(gateway_team_tokens_total{{team=~"$team", type="cached_input"}}{RATE}))'
                 f' / (sum by (team) (rate(gateway_team_tokens_total{{team=~"$team", type="input"}}{RATE})) > 0)', "{{team}}")],
          "Input tokens that the provider read from its cache, which most providers price lower.", "percentunit", low=0, high=1),
    Panel("GPU-seconds", [Query(f"sum by (team) (rate(gateway_team_gpu_seconds_total{TEAM}{RATE}))", "{{team}}")],
          "GPU-seconds of your own engines per second, at their price by tokens: the GPUs that a team keeps busy.", stacked=True),
    Panel("GPUs kept busy by model", [Query(f"sum by (alias, upstream) (rate(gateway_gpu_seconds_total{RATE}))", "{{alias}} → {{upstream}}")],
          "GPU-seconds of your own engines per second, at their price by tokens.", stacked=True),
])  # fmt: skip

TAGS = Row("By tag that calls gave themselves", [
    Panel("Cost by tag", [Query(f"3600 * sum by (tag) (rate(gateway_tag_cost_usd_total{RATE}))", "{{tag}}"),
                          Query(f"sum by (tag) (rate(gateway_tag_unpriced_total{RATE})) / (sum by (tag) (rate(gateway_tag_requests_total{RATE})) > 0)", "of unknown cost, {{tag}}", dashed=True, unit="percentunit")],
          "USD per hour, and on the right the share of calls whose price is missing, of the keys in `tags.keys`. A call of several tags counts under each of them.", "currencyUSD"),
    Panel("Calls and tokens by tag", [Query(f"sum by (tag) (rate(gateway_tag_requests_total{RATE}))", "{{tag}}"),
                                      Query(f'sum by (tag) (rate(gateway_tag_tokens_total{{type=~"input|output"}}{RATE}))', "tokens, {{tag}}", dashed=True, unit="short")],
          "Calls per second that reached an upstream, and on the right their input and output tokens per second.", "reqps"),
])  # fmt: skip

LIMITS = Row("Limits", [
    Panel("Limits used", [Query("topk(50, max by (scope, limit) (gateway_limit_used_ratio))", "{{scope}} {{limit}}")],
          "Share of each limit that is used in its current minute, hour, day, week or month, or by calls in flight: the fifty that are nearest. other: limits after the 300th.",
          "percentunit", width=12, steps=NEAR, low=0),
    Panel("Refused by a limit", [Query(f"sum by (kind, limit) (rate(gateway_limit_refused_total{RATE}))", "{{kind}} {{limit}}")],
          "Calls per second, by whose limit it was: a key's, a person's, a team's or an organization's. The access log has the key.", "reqps", width=6),
    Panel("Waited for the stream server", [Query(f"sum by (result) (rate(gateway_limit_waits_total{RATE}))", "{{result}}"),
                                           Query(f"sum(increase(gateway_limit_dead_workers_total{RATE}))", "workers that died", dashed=True, unit="short")],
          "On the right: workers that died with what they had reserved of limits; it counts as spent until the window ends. On the left: calls per second that waited up to 50 ms to learn whether a limit still has room: it is nearly used up, or its window has just begun.", "reqps", width=6),
    Panel("Tiered down", [Query(f"sum by (alias) (rate(gateway_tier_down_total{RATE}))", "{{alias}}")],
          "Calls per second that went to a fallback with `on: [budget]`, because a limit in dollars was nearly used up.", "reqps", width=6),
    Panel("Runs at the end of a ceiling", [Query("sum by (on_end, limit) (increase(gateway_run_ends_total[1h]))", "{{on_end}} {{limit}}")],
          "Runs in an hour. stop: refused from then on. ask: refused until a person adds the amount. tier: goes on with the cheaper tier.", width=6),
    Panel("Cost of a run", [
        Query("histogram_quantile(0.5, sum by (le, alias) (max by (le, alias) (gateway_eval_run_cost_usd_bucket)))", "p50 {{alias}}"),
        Query("histogram_quantile(0.95, sum by (le, alias) (max by (le, alias) (gateway_eval_run_cost_usd_bucket)))", "p95 {{alias}}"),
        Query("max by (alias) (gateway_eval_run_cost_usd_count)", "runs, {{alias}}", dashed=True, unit="short")],
          "USD of the runs that ended in the last 24 hours: half of them cost at most p50, 19 of 20 at most p95. A run counts under the alias on which it spent most. On the right: how many runs. A ceiling slightly above p95 stops loops and hardly anything else.",
          "currencyUSD", width=6, low=0, console="/runs"),
    Panel("Limits of each worker alone", [Query("max by (instance) (gateway_limits_degraded)", "{{instance}}")],
          "yes: the stream server is unreachable; each worker allows its share of what was last known to be left.", kind="state-timeline",
          width=6, steps=((None, "green"), (1.0, "orange")), names={"0": ("no", "green"), "1": ("yes", "orange")}),
])  # fmt: skip

COST_AND_LIMITS = Dashboard(
    "assay-cost", "Assay Gateway: cost and limits", "Spending by team and tag; limits.",
    [Variable("team", "Team", "label_values(gateway_team_requests_total, team)", "Whose keys called")],
    [NOW, TEAMS, TAGS, LIMITS],
)  # fmt: skip
