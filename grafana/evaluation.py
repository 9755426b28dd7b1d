"""Evaluation: how good answers are, how sure that is, and whether every sampled answer was counted."""

from __future__ import annotations

from panels import ALARM, Dashboard, Panel, Query, Row, Variable, stat

RATE = "[$__rate_interval]"
SCORE = '{scorer=~"$scorer", model=~"$model"}'
SCORES = f"max by (scorer, model, arm, status) (rate(gateway_eval_scores_total{SCORE}{RATE}))"
BY = "scorer, model, arm"
OF = "{{model}} {{arm}}"
FRESH = ((None, "green"), (60.0, "orange"), (300.0, "red"))
USED = ((None, "green"), (0.8, "orange"), (1.0, "red"))
LOST = "gateway_lost|stream_lost|trimmed"  # counted from the store: every consumer shows the same
DROPS = (
    f'sum by (reason) (rate(gateway_eval_dropped_total{{reason!~"{LOST}"}}{RATE})) '
    f'or sum by (reason) (max by (stratum, reason) (rate(gateway_eval_dropped_total{{reason=~"{LOST}"}}{RATE})))'
)

NOW = Row("Now", [
    stat("Unaccounted", "max(gateway_eval_unaccounted)",
         "Exchanges that a gateway put into the stream and that are neither stored, buried nor under way. Above 0: a loss "
         "that nothing explains.", steps=ALARM),
    stat("Oldest unscored", "max(gateway_eval_oldest_unscored_seconds)",
         "Age of the oldest exchange that waits for its scores: how fresh the means are.", "s", FRESH),
    stat("Sampled", f"sum(rate(gateway_eval_sampled_total{RATE})) / sum(rate(gateway_eval_seen_total{RATE}))",
         "Share of calls that are recorded. Means are weighted for it.", "percentunit"),
    stat("Dropped", f"(sum({DROPS}) or vector(0)) / sum(rate(gateway_eval_sampled_total{RATE}))",
         "Share of sampled calls that never reached the stream. Weights allow for it; intervals widen.", "percentunit", ALARM),
    stat("Dead letters", "sum(max by (reason) (gateway_eval_dead_letters_total)) or vector(0)",
         "Stream entries given up so far. `gateway dead list` shows them.", steps=ALARM),
    stat("Scorers blocked", "sum(max by (scorer) (gateway_eval_scorer_blocked)) or vector(0)",
         "Scorers that are not asked: denied, or late again and again. `gateway status` says why.", steps=ALARM),
])  # fmt: skip

MEANS = Row("Scores", [
    Panel("$scorer", [Query(f"max by ({BY}) (gateway_eval_score_mean{SCORE})", OF),
                      Query(f"max by ({BY}) (gateway_eval_score_mean_low{SCORE})", f"low {OF}"),
                      Query(f"max by ({BY}) (gateway_eval_score_mean_high{SCORE})", f"high {OF}")],
          "Weighted mean over all traffic since the scorer's version is at work, and the ends of its 95 % interval, which hold "
          "at every moment, so one may look as often as one likes.", repeat="scorer"),
])  # fmt: skip

WINDOWS = Row("Courses", [
    Panel("Mean in the window", [Query(f"max by ({BY}) (rate(gateway_eval_score_weighted_sum_total{SCORE}{RATE})) / (max by ({BY}) (rate(gateway_eval_score_weight_total{SCORE}{RATE})) > 0)",
                                       "{{scorer}} {{model}} {{arm}}")],
          "Weighted mean of what was scored in each step: shows change that the long mean hides. No interval.", width=12),
    Panel("How much the means rest on", [Query(f"max by ({BY}) (gateway_eval_score_effective_samples{SCORE})", "{{scorer}} {{model}} {{arm}}")],
          "Effective sample size: how many equally weighted scores would tell as much (Kish). Rare strata that stand for many calls make it small.", width=12),
    Panel("As people's labels correct it", [Query(f"max by ({BY}) (gateway_eval_score_corrected_mean{SCORE})", "{{scorer}} {{model}} {{arm}}"),
                                            Query(f"max by ({BY}) (gateway_eval_score_corrected_mean_low{SCORE})", "low {{scorer}} {{model}} {{arm}}"),
                                            Query(f"max by ({BY}) (gateway_eval_score_corrected_mean_high{SCORE})", "high {{scorer}} {{model}} {{arm}}")],
          "Only for scorers with labels (`gateway label next`): the mean with the judge's own errors taken out.", width=12),
    Panel("How scores are spread", [Query(f"sum by (le) (max by (le, {BY}) (rate(gateway_eval_score_bucket{SCORE}{RATE})))", "{{le}}")],
          "Calls, by weight, in each range of the score.", kind="heatmap", width=12),
    Panel("Labels behind the correction", [Query(f"max by ({BY}) (gateway_eval_score_labels{SCORE})", "{{scorer}} {{model}} {{arm}}")],
          "How many answers people have labelled: below about 100 the corrected interval is wide.", width=12),
])  # fmt: skip

LEDGER = Row("Ledger", [
    Panel("From seen to stored", [Query(f"sum(rate(gateway_eval_seen_total{RATE}))", "seen"),
                                  Query(f"sum(rate(gateway_eval_sampled_total{RATE}))", "sampled"),
                                  Query(f"sum(rate(gateway_eval_enqueued_total{RATE}))", "enqueued")],
          "seen = unsampled + sampled; sampled = enqueued + dropped. Lines that part show where exchanges go.", "ops"),
    Panel("Drops by reason", [Query(DROPS, "{{reason}}")],
          "buffer_full: the stream server is away or slow; shutdown: a gateway ended before it was back; gateway_lost, "
          "stream_lost: a process or the server's last second was lost.", "ops", steps=ALARM),
    Panel("Not sampled, by reason", [Query(f"sum by (reason) (rate(gateway_eval_unsampled_total{RATE}))", "{{reason}}")],
          "not_drawn: the sampling rate; opted_out: a key's `sample: never`; forbidden: a header.", "ops", stacked=True),
    Panel("Sampled, by stratum", [Query(f"sum by (stratum) (rate(gateway_eval_sampled_total{RATE}))", "{{stratum}}")],
          "A stratum is the sampling rule that gave a call its probability.", "ops", stacked=True),
    Panel("Unaccounted", [Query("max(gateway_eval_unaccounted)", "unaccounted")],
          "Computed across gateways and store. It must be 0.", steps=ALARM),
    Panel("Freshness", [Query("max(gateway_eval_oldest_unscored_seconds)", "oldest unscored"),
                        Query("max(gateway_eval_shown_age_seconds)", "age of these figures")],
          "A consumer that does not come round any more shows old figures: the second line rises then.", "s", steps=FRESH),
])  # fmt: skip

JUDGES = Row("Scorers and judges", [
    Panel("Scores by status", [Query(f"sum by (scorer, status) ({SCORES})", "{{scorer}} {{status}}")],
          "scored and not_applicable are answers; error, timeout and budget are nonresponse.", "ops"),
    Panel("Nonresponse", [Query('sum by (scorer) (max by (scorer, model, arm, status) (gateway_eval_scores_total{scorer=~"$scorer", status=~"error|timeout|budget"})) / sum by (scorer) (max by (scorer, model, arm, status) (gateway_eval_scores_total{scorer=~"$scorer"}))', "{{scorer}}")],
          "Share of exchanges that a scorer was asked about and did not answer. The mean speaks of the others only.",
          "percentunit", steps=((None, "green"), (0.02, "orange"), (0.1, "red")), low=0, high=1),
    Panel("Blocked", [Query("max by (scorer) (gateway_eval_scorer_blocked)", "{{scorer}}")],
          "A scorer that met an authentication or billing error, or missed its deadline again and again, is not asked.",
          kind="state-timeline", steps=((None, "green"), (1.0, "red")), names={"0": ("asked", "green"), "1": ("blocked", "red")}),
    Panel("Cost of scoring", [Query(f"3600 * max by (scorer) (rate(gateway_eval_cost_usd_total{RATE}))", "{{scorer}}")],
          "USD an hour at the present rate.", "currencyUSD", stacked=True),
    Panel("Tokens of scoring", [Query(f"max by (scorer) (rate(gateway_eval_tokens_total{RATE}))", "{{scorer}}")],
          "Tokens a second that scorers had models use.", stacked=True),
    Panel("Budgets of today", [Query("max by (scorer) (gateway_eval_budget_used_ratio)", "{{scorer}}")],
          "At 1 a scorer waits for the next UTC day; its scores have the status budget until then.", "percentunit", "bargauge",
          steps=USED, low=0, high=1),
])  # fmt: skip

PEOPLE = Row("People and privacy", [
    Panel("Feedback", [Query(f"sum by (result) (rate(gateway_feedback_total{RATE}))", "{{result}}")],
          "What was posted to /v1/feedback, by what became of it.", "ops", width=12),
    Panel("Redactions", [Query(f"sum by (rule) (rate(gateway_redactions_total{RATE}))", "{{rule}}"),
                         Query(f"sum by (reason) (rate(gateway_redaction_failed_total{RATE}))", "failed: {{reason}}")],
          "What was replaced in records before they left the process. A record whose redaction failed goes without content.",
          "ops", width=12),
])  # fmt: skip

EVALUATION = Dashboard(
    "assay-evaluation", "Assay Gateway: evaluation", "Weighted means with bounds, the ledger, freshness, judges and budgets.",
    [Variable("scorer", "Scorer", "label_values(gateway_eval_scores_total, scorer)", "Whose opinion"),
     Variable("model", "Model", "label_values(gateway_eval_scores_total, model)", "The model that answered")],
    [NOW, MEANS, WINDOWS, LEDGER, JUDGES, PEOPLE],
)  # fmt: skip
