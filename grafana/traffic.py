"""Traffic: requests, outcomes, durations and cost of each upstream. Overview has what is by alias alone."""

from __future__ import annotations

from panels import Dashboard, Panel, Query, Row, Variable, stat

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
    return [
        Query(quantile(q, metric, by), f"p{q * 100:g} {{{{{by}}}}}", exemplars="per_output" not in metric) for q in qs
    ]


NOW = Row("Now", [
    stat("Requests", f"sum({REQUESTS})", "Calls per second, those that failed too.", "reqps"),
    stat("Failed", f"(sum({FAILURES}) or vector(0)) / sum({REQUESTS})",
         "Share of calls that ended in an upstream error, a timeout or a truncated stream. Calls that the client aborted are not counted.",
         "percentunit", SHARE),
    stat("First token, p95", quantile(0.95, "gen_ai_server_time_to_first_token_seconds", ""),
         "Streaming calls: time from the request's arrival to the first content.", "s"),
], opened=True)  # fmt: skip

ERRORS = Row("Rate and errors", [
    Panel("Outcomes", [Query(f"sum by (upstream, outcome) ({REQUESTS})", "{{upstream}} {{outcome}}")],
          "ok; client_gone: the client disconnected; client_deadline: its own deadline passed; blocked: a guard refused; upstream_error, timeout, cut: the upstream failed.", "reqps"),
    Panel("Failure rate by alias", [Query(f"sum by (alias) ({FAILURES}) / sum by (alias) ({REQUESTS})", "{{alias}}")],
          "Share of an alias's calls that failed upstream, after retries and fallbacks.", "percentunit", steps=SHARE),
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
    Panel("Upstreams and targets that failed or came back", [
        Query(f"sum by (upstream, model, to) (increase(gateway_breaker_transitions_total{UPSTREAM}{RATE}))", "{{upstream}}/{{model}} {{to}}"),
        Query(f"sum by (upstream, to) (increase(gateway_upstream_health_transitions_total{UPSTREAM}{RATE}))", "{{upstream}} {{to}}")],
          "Circuit breakers of targets that opened or closed; upstreams that went down or up by their health check. The log has the reason of each. Many of the latter: raise `health_check.failures` or `timeout_s`."),
])  # fmt: skip

LATENCY = Row("Latency", [
    Panel("Duration by upstream", quantiles("gen_ai_server_request_duration_seconds", "upstream", 0.5, 0.95, 0.99),
          "Time from the request's arrival to the end of the response.", "s"),
    Panel("First token by upstream", quantiles("gen_ai_server_time_to_first_token_seconds", "upstream", 0.5, 0.95),
          "Streaming calls: time from the request's arrival to the first content.", "s"),
    Panel("Inter-token latency by upstream", quantiles("gen_ai_server_time_per_output_token_seconds", "upstream", 0.5, 0.95),
          "Streaming calls: time after the first content, per output token.", "s"),
    Panel("Gateway overhead", [Query(quantile(q, "gateway_overhead_seconds", "", ""), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
          "Time that the gateway itself adds to a call: half, 95 and 99 of 100 calls take at most this.", "s"),
])  # fmt: skip

TOKENS = Row("Tokens and cost", [
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

PEOPLE = Row("Feedback and privacy", [
    Panel("Feedback", [Query(f"sum by (result) (rate(gateway_feedback_total{RATE}))", "{{result}}")],
          "What people said about answers, posted to /v1/feedback, by what became of it.", "ops", width=12),
    Panel("Redactions", [Query(f"sum by (rule) (rate(gateway_redactions_total{RATE}))", "{{rule}}"),
                         Query(f"sum by (reason) (rate(gateway_redaction_failed_total{RATE}))", "failed: {{reason}}")],
          "Values replaced in records before they left the process. A record whose redaction failed is sent without content.",
          "ops", width=12),
])  # fmt: skip

TRAFFIC = Dashboard(
    "assay-traffic", "Assay Gateway: traffic", "Client traffic: rate, errors, latency, tokens and cost.",
    [Variable("alias", "Alias", "label_values(gateway_requests_total, alias)", "The model that clients name"),
     Variable("upstream", "Upstream", "label_values(gateway_requests_total, upstream)", "Where calls went")],
    [NOW, ERRORS, LATENCY, TOKENS, PEOPLE],
)  # fmt: skip
