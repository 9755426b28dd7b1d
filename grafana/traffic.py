"""Traffic: requests, outcomes, durations and cost, and how near the upstreams are to their limits."""

from __future__ import annotations

from panels import ALARM, Dashboard, Panel, Query, Row, Variable, stat

ALIAS = '{alias=~"$alias", upstream=~"$upstream"}'
FAILED = '{alias=~"$alias", upstream=~"$upstream", outcome!~"ok|client_gone|client_deadline|blocked|client_error|queue_full"}'
UPSTREAM = '{upstream=~"$upstream"}'
RATE = "[$__rate_interval]"
REQUESTS = f"rate(gateway_requests_total{ALIAS}{RATE})"
FAILURES = f"rate(gateway_requests_total{FAILED}{RATE})"
SHARE = ((None, "green"), (0.01, "orange"), (0.05, "red"))


def quantile(q: float, metric: str, by: str, where: str = UPSTREAM) -> str:
    inner = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({inner}) (rate({metric}_bucket{where}{RATE})))"


def quantiles(metric: str, by: str, *qs: float) -> list[Query]:
    return [Query(quantile(q, metric, by), f"p{q * 100:g} {{{{{by}}}}}") for q in qs]


NOW = Row("Now", [
    stat("Requests", f"sum({REQUESTS})", "Calls per second, those that failed too.", "reqps"),
    stat("Failed", f"(sum({FAILURES}) or vector(0)) / sum({REQUESTS})",
         "Share of calls that ended in an upstream error, a timeout or a truncated stream. Calls that the client aborted are not counted.",
         "percentunit", SHARE),
    stat("First token, p95", quantile(0.95, "gen_ai_server_time_to_first_token_seconds", ""),
         "Streaming calls: time from the request's arrival to the first content.", "s"),
    stat("In flight", "sum(gateway_inflight_requests)", "Calls in progress, over all workers."),
    stat("WebSockets", "sum(gateway_websocket_connections)", "Open WebSockets, over all workers; each may have several calls in progress."),
    stat("Tokens", f"sum(rate(gateway_tokens_total{{alias=~\"$alias\", upstream=~\"$upstream\", type=~\"input|output\"}}{RATE}))",
         "Input and output tokens per second.", "short"),
    stat("Cost", f"3600 * sum(rate(gateway_cost_usd_total{ALIAS}{RATE}))",
         "USD per hour at the current rate, for calls with known usage and price.", "currencyUSD"),
], opened=True)  # fmt: skip

ERRORS = Row("Rate and errors", [
    Panel("Requests by alias", [Query(f"sum by (alias) ({REQUESTS})", "{{alias}}")],
          "Calls per second, by the model name in the request.", "reqps", stacked=True),
    Panel("Outcomes", [Query(f"sum by (upstream, outcome) ({REQUESTS})", "{{upstream}} {{outcome}}")],
          "ok; client_gone: the client disconnected; client_deadline: its own deadline passed; blocked: a guard refused; upstream_error, timeout, cut: the upstream failed.", "reqps"),
    Panel("Failure rate by alias", [Query(f"sum by (alias) ({FAILURES}) / sum by (alias) ({REQUESTS})", "{{alias}}")],
          "Share of an alias's calls that failed upstream, after retries and fallbacks.", "percentunit", steps=SHARE),
    Panel("Objective by alias", [Query('max by (alias) (gateway_objective_ratio{alias=~"$alias"})', "{{alias}}")],
          "Target share of successful calls, `models.NAME.objective`; the alerts use it.", "percentunit"),
    Panel("Attempts", [Query(f"sum by (upstream, result) (rate(gateway_attempts_total{{upstream=~\"$upstream\"}}{RATE}))",
                             "{{upstream}} {{result}}")],
          "Requests sent to upstreams. More than calls: some were tried again, went elsewhere, or were copied for an experiment.", "reqps"),
    Panel("Refused by the gateway", [
        Query(f"sum by (status, code) (rate(gateway_refused_total{RATE}))", "{{status}} {{code}}"),
        Query(f"sum by (reason) (rate(gateway_accept_failures_total{RATE}))", "accept: {{reason}}")],
          "The gateway's own errors: keys, limits, unreadable bodies, all upstreams unavailable; accept: out of open files.",
          "reqps"),
    Panel("Streams truncated upstream", [Query(f"sum by (alias, how) (rate(gateway_continued_total{{alias=~\"$alias\"}}{RATE}))", "{{alias}} {{how}}")],
          "continued: another target continued where the first one stopped; ended: the client received an error.", "reqps"),
])  # fmt: skip

LATENCY = Row("Latency", [
    Panel("Duration by upstream", quantiles("gen_ai_server_request_duration_seconds", "upstream", 0.5, 0.95, 0.99),
          "Time from the request's arrival to the end of the response.", "s"),
    Panel("First token by upstream", quantiles("gen_ai_server_time_to_first_token_seconds", "upstream", 0.5, 0.95),
          "Streaming calls: time from the request's arrival to the first content.", "s"),
    Panel("Inter-token latency by upstream", quantiles("gen_ai_server_time_per_output_token_seconds", "upstream", 0.5, 0.95),
          "Streaming calls: time after the first content, per output token.", "s"),
    Panel("Time to first token", [Query(f"sum by (le) (rate(gen_ai_server_time_to_first_token_seconds_bucket{UPSTREAM}{RATE}))", "{{le}}")],
          "How long answers took to begin: the darker, the more calls.", "s", "heatmap"),
    Panel("Gateway overhead", [Query(quantile(q, "gateway_overhead_seconds", "", ""), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
          "Time that the gateway itself adds to a call: half, 95 and 99 of 100 calls take at most this.", "s"),
])  # fmt: skip

TOKENS = Row("Tokens and cost", [
    Panel("Tokens by kind", [Query(f"sum by (type) (rate(gateway_tokens_total{ALIAS}{RATE}))", "{{type}}")],
          "Tokens per second. cached_input is part of input, reasoning is part of output."),
    Panel("Tokens by target", [Query(f"sum by (alias, upstream) (rate(gateway_tokens_total{{alias=~\"$alias\", upstream=~\"$upstream\", type=~\"input|output\"}}{RATE}))",
                                     "{{alias}} → {{upstream}}")],
          "Input and output tokens per second.", stacked=True),
    Panel("Tokens per call", [Query(f"histogram_quantile(0.95, sum by (le, gen_ai_token_type) (rate(gen_ai_client_token_usage_bucket{UPSTREAM}{RATE})))",
                                       "p95 {{gen_ai_token_type}}")],
          "Length of prompts and answers: 19 of 20 calls have at most this many tokens."),
    Panel("Cost by alias", [Query(f"3600 * sum by (alias, upstream) (rate(gateway_cost_usd_total{ALIAS}{RATE}))", "{{alias}} → {{upstream}}")],
          "USD per hour at the current rate.", "currencyUSD", stacked=True),
    Panel("Cost per 1 000 calls", [Query(f"1000 * sum by (alias, upstream) (rate(gateway_cost_usd_total{ALIAS}{RATE})) / (sum by (alias, upstream) ({REQUESTS}) > 0)",
                                        "{{alias}} → {{upstream}}"),
                                  Query(f"sum by (alias, upstream) (increase(gateway_requests_total{ALIAS}{RATE}))", "calls, {{alias}} → {{upstream}}", dashed=True, unit="short")],
          "USD, and on the right the calls that it is the mean of. Calls of unknown cost count as 0: see the next panel.", "currencyUSD"),
    Panel("Calls of unknown cost", [Query(f"sum by (alias, upstream) (rate(gateway_unpriced_total{ALIAS}{RATE})) / (sum by (alias, upstream) ({REQUESTS}) > 0)",
                                          "{{alias}} → {{upstream}}")],
          "Share of calls without a price, or whose upstream reported no usage: add the model to `prices`.", "percentunit", steps=SHARE),
])  # fmt: skip

SATURATION = Row("Saturation", [
    Panel("In flight, by upstream", [Query('sum by (upstream) (gateway_upstream_inflight_requests{upstream=~"$upstream"})', "{{upstream}}")],
          "Attempts in progress. `concurrency` is the limit where it is set.", stacked=True),
    Panel("Queued calls", [Query('sum by (upstream) (gateway_upstream_queued_requests{upstream=~"$upstream"})', "{{upstream}}")],
          "Calls that wait because an upstream is at its `concurrency` limit. Above zero for long: add capacity or targets.", steps=ALARM),
    Panel("Circuit breakers", [Query('max by (upstream, model) (gateway_breaker_open{upstream=~"$upstream"})', "{{upstream}}/{{model}}")],
          "open: the target failed repeatedly and receives no calls until a probe succeeds.", kind="state-timeline",
          steps=((None, "green"), (1.0, "red")), names={"0": ("closed", "green"), "1": ("open", "red")}),
    Panel("Breakers that opened or closed", [Query(f"sum by (upstream, model, to) (increase(gateway_breaker_transitions_total{UPSTREAM}{RATE}))",
                                                   "{{upstream}}/{{model}} {{to}}")],
          "Each is a line of the log as well, with the reason."),
    Panel("Health checks", [Query('max by (upstream) (gateway_upstream_down{upstream=~"$upstream"})', "{{upstream}}")],
          "down: `health_check.failures` checks in a row have failed. Upstreams without a health path are not shown.", kind="state-timeline",
          steps=((None, "green"), (1.0, "red")), names={"0": ("up", "green"), "1": ("down", "red")}),
    Panel("Went down or up", [Query(f"sum by (upstream, to) (increase(gateway_upstream_health_transitions_total{UPSTREAM}{RATE}))",
                                    "{{upstream}} {{to}}")],
          "By the health check. Many: raise `health_check.failures` or `timeout_s`."),
])  # fmt: skip

PEOPLE = Row("Feedback and privacy", [
    Panel("Feedback", [Query(f"sum by (result) (rate(gateway_feedback_total{RATE}))", "{{result}}")],
          "What people said about answers, posted to /v1/feedback, by what became of it.", "ops", width=12),
    Panel("Redactions", [Query(f"sum by (rule) (rate(gateway_redactions_total{RATE}))", "{{rule}}"),
                         Query(f"sum by (reason) (rate(gateway_redaction_failed_total{RATE}))", "failed: {{reason}}")],
          "Values replaced in records before they left the process. A record whose redaction failed is sent without content.",
          "ops", width=12),
])  # fmt: skip

TRAFFIC = Dashboard(
    "assay-traffic", "Assay Gateway: traffic", "Client traffic: rate, errors, latency, tokens, cost, saturation.",
    [Variable("alias", "Alias", "label_values(gateway_requests_total, alias)", "The model that clients name"),
     Variable("upstream", "Upstream", "label_values(gateway_requests_total, upstream)", "Where calls went")],
    [NOW, ERRORS, LATENCY, TOKENS, SATURATION, PEOPLE],
)  # fmt: skip
