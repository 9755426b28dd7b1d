"""Overview: twelve panels that say whether it is up, whether it is good, what it costs, and whether to trust the figures."""

from __future__ import annotations

from evaluation import DROPS
from experiments import STATE, STATES, VERDICT, VERDICTS
from panels import ALARM, Dashboard, Panel, Query, Row, Variable, estimate
from traffic import quantile
from window_means import BY_ALIAS

RATE = "[$__rate_interval]"
ALIAS = '{alias=~"$alias"}'
FAILED = '{alias=~"$alias", outcome!~"ok|client_gone|client_deadline|blocked|client_error|queue_full"}'
REQUESTS = f"sum by (alias) (rate(gateway_requests_total{ALIAS}{RATE}))"
SCORE = '{alias=~"$alias", scorer=~"$scorer"}'
OF = "{{alias}} {{scorer}} ({{upstream}}/{{model}} {{arm}})"
ENDS = "experiment, candidate, metric"
OF_METRIC = f"max by ({ENDS}) (gateway_experiment_margin)"
UNSCORED = 'rate(gateway_eval_scores_total{status=~"error|timeout|budget"}[$__rate_interval])'
BY_STATUS = "sum by (scorer) (max by (scorer, model, arm, status)"
FAILING_SCORERS = (
    "count((max by (scorer) (gateway_eval_scorer_blocked) == 1) "
    f"or ({BY_STATUS} ({UNSCORED})) / {BY_STATUS} (rate(gateway_eval_scores_total{RATE}))) > 0.1)) or vector(0)"
)
LAG = ((None, "green"), (60.0, "orange"), (300.0, "red"))
WIDTH = 6


def every(query: str) -> str:
    """A query of the dashboard of experiments, for all of them."""
    return query.replace('experiment=~"$experiment", ', "").replace('candidate=~"$candidate", ', "")


CLIENTS = Row("Clients", [
    Panel("Calls", [Query(REQUESTS, "{{alias}}")], "Calls per second, by the model name that clients ask for.", "reqps", width=WIDTH, stacked=True,
          console="/calls?alias=${__field.labels.alias:percentencode}"),
    Panel("Failed calls", [
        Query(f"(sum by (alias) (rate(gateway_requests_total{FAILED}{RATE})) or 0 * {REQUESTS}) / {REQUESTS}", "{{alias}}", exemplars=True),
        Query(f"1 - max by (alias) (gateway_objective_ratio{ALIAS})", "{{alias}}, at most", dashed=True)],
          "Share of all calls that failed although the gateway tried again and elsewhere. The dashed line is the most that "
          "`models.NAME.objective` allows. Calls that a client gave up, or got wrong, are not failures.", "percentunit", width=WIDTH, low=0, console="/failures"),
    Panel("First token", [Query(quantile(q, "gen_ai_server_time_to_first_token_seconds", "alias", ALIAS), f"p{q * 100:g} {{{{alias}}}}", exemplars=True) for q in (0.5, 0.95)],
          "How long people wait until a streamed answer begins: half of them at most p50, 19 of 20 at most p95.", "s", width=WIDTH, low=0),
    Panel("Duration, and the gateway's part of it", [
        Query(quantile(0.95, "gen_ai_server_request_duration_seconds", "alias", ALIAS), "p95 {{alias}}", exemplars=True),
        Query(quantile(0.99, "gateway_overhead_seconds", "", ""), "gateway alone, p99", dashed=True, unit="s")],
          "Left: time until the answer is complete, 19 of 20 calls. Right: time that 99 of 100 calls spend in the gateway itself.", "s", width=WIDTH, low=0),
], opened=True)  # fmt: skip

LOAD = Row("Money and load", [
    Panel("Cost", [
        Query(f"3600 * sum by (alias) (rate(gateway_cost_usd_total{ALIAS}{RATE}))", "{{alias}}"),
        Query(f"(sum(rate(gateway_unpriced_total{ALIAS}{RATE})) or vector(0)) / sum(rate(gateway_requests_total{ALIAS}{RATE}))", "of unknown cost", dashed=True, unit="percentunit")],
          "USD per hour at the current rate. The dashed line, on the right: share of calls whose cost is unknown and that the sum leaves out; add their models to `prices`.",
          "currencyUSD", width=WIDTH, stacked=True, console="/keys"),
    Panel("Tokens", [Query(f'sum by (type) (rate(gateway_tokens_total{{alias=~"$alias", type=~"input|output|cached_input"}}{RATE}))', "{{type}}")],
          "Tokens per second. cached_input is the part of the input that the provider had in its cache.", width=WIDTH, low=0),
    Panel("In flight and queued", [
        Query("sum by (upstream) (gateway_upstream_inflight_requests)", "{{upstream}}"),
        Query("sum by (upstream) (gateway_upstream_queued_requests)", "{{upstream}}, queued", dashed=True)],
          "Calls that an upstream works on, and calls that wait because it has as many as `concurrency` allows. A queue that stays: add targets.", width=WIDTH, low=0),
    Panel("Upstreams", [
        Query("max by (upstream) (gateway_upstream_down)", "{{upstream}}", names={"0": ("up", "green"), "1": ("down", "red")}),
        Query("max by (upstream, model) (gateway_breaker_open)", "{{upstream}}/{{model}}", names={"0": ("ok", "green"), "1": ("paused", "red")})],
          "Upstreams by their health checks; targets by their circuit breakers: paused after repeated failures, until a probe succeeds.",
          kind="state-timeline", width=WIDTH, steps=((None, "green"), (1.0, "red")), console="/system"),
], opened=True)  # fmt: skip

ANSWERS = Row("Answers", [
    Panel("Scores", estimate("gateway_eval_alias_score_mean", SCORE, BY_ALIAS, OF),
          "How good the answers are: the mean over all traffic, estimated from the sample. With 95 % certainty the truth lies between the dashed lines, however often you look. It moves slowly: Evaluation has the mean of the last minutes.",
          width=WIDTH, console=""),
    Panel("Experiments", [
        Query(f"0 * {OF_METRIC} + on (experiment, candidate) group_left {every(VERDICT)}", names=VERDICTS),
        *(Query(f"max by ({ENDS}) (gateway_experiment_{name}) and {OF_METRIC}") for name in ("difference", "difference_low", "difference_high", "metric_pairs")),
        Query(f"-{OF_METRIC}")],
          "Candidate minus control; above 0 the candidate is better. It ships once the lower end of every metric is above its limit. hold: not decided yet.",
          kind="table", width=WIDTH, console="/experiments/of/${__data.fields.Experiment:percentencode}",
          columns={"experiment": "Experiment", "candidate": "Candidate", "metric": "Metric", "A": "Verdict", "B": "Difference", "C": "Low", "D": "High",
                   "F": "Limit", "E": "Pairs"}),
    Panel("Ramps", [
        Query(every(STATE), "{{experiment}}", names=STATES),
        Query("max by (experiment) (gateway_ramp_share)", "{{experiment}}, share", unit="percentunit")],
          "What each ramp does, and the share of the users or conversations that its candidate answers.", kind="state-timeline", width=WIDTH,
          steps=((None, "blue"),), console="/experiments/of/${__field.labels.experiment:percentencode}"),
    Panel("Can these figures be trusted?", [
        Query("max(gateway_eval_unaccounted)", "lost without a reason", steps=ALARM),
        Query(f"(sum({DROPS}) or vector(0)) / sum(rate(gateway_eval_sampled_total{RATE}))", "dropped before scoring", unit="percentunit", steps=((None, "green"), (0.001, "orange"), (0.01, "red"))),
        Query("max(gateway_eval_oldest_unscored_seconds)", "oldest unscored", unit="s", steps=LAG),
        Query(FAILING_SCORERS, "scorers that fail", steps=ALARM)],
          "Recorded calls that nobody can account for (must be 0); share of the sample that was dropped; age of the oldest call that waits for its scores; scorers "
          "that are blocked, or give no score for more than a tenth of the calls.", kind="stat", width=WIDTH, console="/system"),
], opened=True)  # fmt: skip

OVERVIEW = Dashboard(
    "assay-overview", "Assay Gateway: overview", "Is it up, is it good, what does it cost, and can the figures be trusted?",
    [Variable("alias", "Alias", "label_values(gateway_requests_total, alias)", "The model that clients name"),
     Variable("scorer", "Scorer", "label_values(gateway_eval_scores_total, scorer)", "What the answers are measured by")],
    [CLIENTS, LOAD, ANSWERS], since="now-6h",
)  # fmt: skip
