"""Evaluation: means of scores with their intervals, and whether every sampled answer was counted."""

from __future__ import annotations

from alias_scores import ALIASES
from panels import ALARM, Dashboard, Panel, Query, Row, Variable, stat
from window_means import BY, window_bound, window_mean

RATE = "[$__rate_interval]"
SCORE = '{scorer=~"$scorer", model=~"$model"}'
OF_MODEL = '{model=~"$model"}'
SCORES = f"max by (scorer, model, arm, status) (rate(gateway_eval_scores_total{SCORE}{RATE}))"
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
         "Exchanges that a gateway appended to the stream and that are neither stored, dead letters nor in flight. Above 0: an unexplained loss.", steps=ALARM),
    stat("Oldest unscored", "max(gateway_eval_oldest_unscored_seconds)",
         "Age of the oldest exchange that waits for its scores: how fresh the means are.", "s", FRESH),
    stat("Sampled", f"sum(rate(gateway_eval_sampled_total{RATE})) / sum(rate(gateway_eval_seen_total{RATE}))",
         "Share of calls that are recorded. Means are weighted for it.", "percentunit"),
    stat("Dropped", f"(sum({DROPS}) or vector(0)) / sum(rate(gateway_eval_sampled_total{RATE}))",
         "Share of sampled calls that never reached the stream. The weights correct for it; intervals become wider.", "percentunit", ALARM),
    stat("Dead letters", "sum(max by (reason) (gateway_eval_dead_letters_total)) or vector(0)",
         "Stream entries moved to the dead-letter queue so far. `gateway dead list` shows them.", steps=ALARM),
    stat("Scorers blocked", "sum(max by (scorer) (gateway_eval_scorer_blocked)) or vector(0)",
         "Scorers that are not called: access was denied, or they kept missing their deadline. `gateway status` says why.", steps=ALARM),
])  # fmt: skip

MEANS = Row("Scores", [
    Panel("$scorer", [Query(f"max by ({BY}) (gateway_eval_score_mean{SCORE})", OF),
                      Query(f"max by ({BY}) (gateway_eval_score_mean_low{SCORE})", f"low {OF}"),
                      Query(f"max by ({BY}) (gateway_eval_score_mean_high{SCORE})", f"high {OF}")],
          "Weighted mean over all traffic since this version of the scorer was deployed, with its 95 % confidence sequence: valid at any time, however often you look.", repeat="scorer"),
])  # fmt: skip

WINDOWS = Row("Trends", [
    Panel("Mean in the window", [Query(window_mean(SCORE, RATE), "{{scorer}} {{model}} {{arm}}"),
                                 Query(window_bound("low", SCORE, RATE), "low {{scorer}} {{model}} {{arm}}"),
                                 Query(window_bound("high", SCORE, RATE), "high {{scorer}} {{model}} {{arm}}")],
          "Weighted mean of the scores in each time step, with its 95 % interval: shows changes that the long-run mean hides. The interval is over conversations where they are the unit of sampling, else over calls. None below 30 effective scores: take a longer time range.", width=12),
    Panel("Effective sample size", [Query(f"max by ({BY}) (gateway_eval_score_effective_samples{SCORE})", "{{scorer}} {{model}} {{arm}}")],
          "The number of equally weighted scores that carry the same information (Kish). Small when a rarely sampled stratum represents many calls.", width=12),
    Panel("Mean corrected by human labels", [Query(f"max by ({BY}) (gateway_eval_score_corrected_mean{SCORE})", "{{scorer}} {{model}} {{arm}}"),
                                            Query(f"max by ({BY}) (gateway_eval_score_corrected_mean_low{SCORE})", "low {{scorer}} {{model}} {{arm}}"),
                                            Query(f"max by ({BY}) (gateway_eval_score_corrected_mean_high{SCORE})", "high {{scorer}} {{model}} {{arm}}")],
          "Only for scorers with labels (`gateway label next`): the mean, corrected for the judge's error rates.", width=12),
    Panel("Mean of runs", [Query(f"max by ({BY}) (gateway_eval_run_score_mean{OF_MODEL})", "{{scorer}} {{model}} {{arm}}"),
                           Query(f"max by ({BY}) (gateway_eval_run_score_mean_low{OF_MODEL})", "low {{scorer}} {{model}} {{arm}}"),
                           Query(f"max by ({BY}) (gateway_eval_run_score_mean_high{OF_MODEL})", "high {{scorer}} {{model}} {{arm}}")],
          "Scorers of runs, the calls of one task: weighted mean over the runs of the last seven days, with its 95 % interval.", width=12),
    Panel("Effective sample size of runs", [Query(f"max by ({BY}) (gateway_eval_run_score_effective_samples{OF_MODEL})", "{{scorer}} {{model}} {{arm}}")],
          "The number of equally weighted runs that carry the same information (Kish).", width=12),
    Panel("Score distribution", [Query(f"sum by (le) (max by (le, {BY}) (rate(gateway_eval_score_bucket{SCORE}{RATE})))", "{{le}}")],
          "Calls, by weight, in each range of the score.", kind="heatmap", width=12),
    Panel("Labels used for the correction", [Query(f"max by ({BY}) (gateway_eval_score_labels{SCORE})", "{{scorer}} {{model}} {{arm}}")],
          "Number of answers labelled by people: below about 100 the corrected interval is wide.", width=12),
])  # fmt: skip

LEDGER = Row("Ledger", [
    Panel("From seen to stored", [Query(f"sum(rate(gateway_eval_seen_total{RATE}))", "seen"),
                                  Query(f"sum(rate(gateway_eval_sampled_total{RATE}))", "sampled"),
                                  Query(f"sum(rate(gateway_eval_enqueued_total{RATE}))", "enqueued")],
          "seen = unsampled + sampled; sampled = enqueued + dropped. Where the lines diverge, exchanges are lost.", "ops"),
    Panel("Drops by reason", [Query(DROPS, "{{reason}}")],
          "buffer_full: the stream server is unreachable or slow; shutdown: a gateway stopped before the server was reachable again; gateway_lost, stream_lost: a process was killed, or the server lost its last second of data.", "ops", steps=ALARM),
    Panel("Not sampled, by reason", [Query(f"sum by (reason) (rate(gateway_eval_unsampled_total{RATE}))", "{{reason}}")],
          "not_drawn: the sampling rate; opted_out: a key's `sample: never`; forbidden: a header.", "ops", stacked=True),
    Panel("Sampled, by stratum", [Query(f"sum by (stratum) (rate(gateway_eval_sampled_total{RATE}))", "{{stratum}}")],
          "A stratum is the sampling rule that set a call's inclusion probability.", "ops", stacked=True),
    Panel("Unaccounted", [Query("max(gateway_eval_unaccounted)", "unaccounted")],
          "Computed across gateways and store. It must be 0.", steps=ALARM),
    Panel("Freshness", [Query("max(gateway_eval_oldest_unscored_seconds)", "oldest unscored"),
                        Query("max(gateway_eval_shown_age_seconds)", "age of these figures")],
          "A consumer that is stuck reports stale values: then the second line rises.", "s", steps=FRESH),
])  # fmt: skip

JUDGES = Row("Scorers and judges", [
    Panel("Scores by status", [Query(f"sum by (scorer, status) ({SCORES})", "{{scorer}} {{status}}")],
          "scored and not_applicable are answers; error, timeout and budget are nonresponse.", "ops"),
    Panel("Nonresponse", [Query('sum by (scorer) (max by (scorer, model, arm, status) (gateway_eval_scores_total{scorer=~"$scorer", status=~"error|timeout|budget"})) / sum by (scorer) (max by (scorer, model, arm, status) (gateway_eval_scores_total{scorer=~"$scorer"}))', "{{scorer}}")],
          "Share of exchanges for which the scorer gave no score. The mean covers only the others.",
          "percentunit", steps=((None, "green"), (0.02, "orange"), (0.1, "red")), low=0, high=1),
    Panel("Blocked", [Query("max by (scorer) (gateway_eval_scorer_blocked)", "{{scorer}}")],
          "A scorer with an authentication or billing error, or that repeatedly missed its deadline, is not called.",
          kind="state-timeline", steps=((None, "green"), (1.0, "red")), names={"0": ("asked", "green"), "1": ("blocked", "red")}),
    Panel("Cost of scoring", [Query(f"3600 * max by (scorer) (rate(gateway_eval_cost_usd_total{RATE}))", "{{scorer}}")],
          "USD per hour at the current rate.", "currencyUSD", stacked=True),
    Panel("Tokens of scoring", [Query(f"max by (scorer) (rate(gateway_eval_tokens_total{RATE}))", "{{scorer}}")],
          "Tokens per second used by scorers that call models.", stacked=True),
    Panel("Budgets used today", [Query("max by (scorer) (gateway_eval_budget_used_ratio)", "{{scorer}}")],
          "At 1 a scorer is paused until the next UTC day; until then its scores have the status budget.", "percentunit", "bargauge",
          steps=USED, low=0, high=1),
])  # fmt: skip

TARGET = "max by (target)"
PREDICTOR = Row("Predictor and drift", [
    Panel("Variance with the predictor", [Query(f"{TARGET} (gateway_eval_predictor_variance_ratio)", "{{target}}"),
                                          Query(f"{TARGET} (gateway_eval_predictor_variance_ratio_low)", "low {{target}}"),
                                          Query(f"{TARGET} (gateway_eval_predictor_variance_ratio_high)", "high {{target}}")],
          "Variance of the guided mean, relative to plain sampling of as many answers. 0.5: half the judged answers suffice. Above 1 by more than noise: the predictor is off.",
          steps=((None, "green"), (1.0, "red"))),
    Panel("Error on unseen answers", [Query(f"{TARGET} (gateway_eval_predictor_error)", "{{target}}"),
                                      Query(f"{TARGET} (gateway_eval_predictor_error_of_mean)", "always the mean, {{target}}"),
                                      Query(f"{TARGET} (gateway_eval_predictor_psi)", "largest PSI, {{target}}")],
          "Mean absolute error of the predictions and of always predicting the mean; and how far the most shifted feature has moved."),
    Panel("Ranking and calibration", [Query(f"{TARGET} (gateway_eval_predictor_auc)", "AUC {{target}}"),
                                      Query(f"{TARGET} (gateway_eval_predictor_slope)", "slope {{target}}")],
          "AUC 0.5: it cannot tell good answers from poor ones. A slope of 1: predictions mean what they say."),
    Panel("Drift alarms", [Query("max by (target, alias, kind) (gateway_eval_drift)", "{{alias}} {{kind}}")],
          "quality: the mean verdict has left its usual range; input: a feature of requests or answers has.",
          kind="state-timeline", steps=((None, "green"), (1.0, "red")), names={"0": ("usual", "green"), "1": ("drift", "red")}),
    Panel("Evidence for drift", [Query("max by (target, alias, kind) (gateway_eval_drift_log_evalue)", "{{alias}} {{kind}}")],
          "ln of the e-detector. The alarm is on from 9.2 (quality) or 11.5 (input); around 0 nothing has changed."),
    Panel("Share judged, and whether the model is followed", [Query(f"{TARGET} (gateway_eval_predictor_inclusion_mean)", "judged {{target}}"),
                                                              Query(f"{TARGET} (gateway_eval_predictor_off)", "off {{target}}")],
          "Mean probability with which the judge sees an exchange. off = 1: the model costs precision, so every exchange has the same.", "percentunit", low=0, high=1),
    Panel("Cost of predicting", [Query(f"sum by (target) (rate(gateway_eval_predictor_cpu_seconds_total{RATE})) / sum by (target) (rate(gateway_eval_predictor_exchanges_total{RATE}))", "{{target}}")],
          "Processor time of the consumers for one exchange: features, prediction and draw.", "s"),
    Panel("Age of the model", [Query(f"time() - {TARGET} (gateway_eval_predictor_trained_timestamp_seconds)", "{{target}}"),
                               Query(f"time() - {TARGET} (gateway_eval_predictor_created_timestamp_seconds)", "training, {{target}}")],
          "Time since the newest answer that the model was trained on, and since the training.", "s"),
    Panel("Answers behind the model", [Query(f"{TARGET} (gateway_eval_predictor_training_rows)", "trained on, {{target}}"),
                                       Query(f"{TARGET} (gateway_eval_predictor_rows)", "assessed on, {{target}}")],
          "Values of the target that the model was trained on, and the newest of them that it was assessed on before."),
])  # fmt: skip

PEOPLE = Row("Feedback and privacy", [
    Panel("Feedback", [Query(f"sum by (result) (rate(gateway_feedback_total{RATE}))", "{{result}}")],
          "Posts to /v1/feedback, by outcome.", "ops", width=12),
    Panel("Redactions", [Query(f"sum by (rule) (rate(gateway_redactions_total{RATE}))", "{{rule}}"),
                         Query(f"sum by (reason) (rate(gateway_redaction_failed_total{RATE}))", "failed: {{reason}}")],
          "Values replaced in records before they left the process. A record whose redaction failed is sent without content.",
          "ops", width=12),
])  # fmt: skip

BY_GUARD = "max by (guard)"
GUARDS = Row("Guards", [
    Panel("Hits of guards", [
        Query(f'sum by (guard, action) (rate(gateway_guard_decisions_total{{result="hit"}}{RATE})) / sum by (guard, action) (rate(gateway_guard_decisions_total{RATE}))', "{{guard}} {{action}}")],
          "Share of the decisions of each guard that are a hit, by the action in force: with `observe`, what `block` would refuse.",
          "percentunit", width=8),
    Panel("Guards without a decision", [
        Query(f"sum by (guard, reason) (rate(gateway_guard_failures_total{RATE}))", "{{guard}}: {{reason}}"),
        Query("max by (guard) (gateway_guard_failing)", "{{guard}} fails")],
          "Decisions without a score, in which `if_late` decides; and guards whose last decisions have all failed.", "ops", width=8),
    Panel("Time of a guard's decision", [
        Query(f"histogram_quantile(0.99, sum by (le, guard) (rate(gateway_guard_seconds_bucket{RATE})))", "p99 {{guard}}")],
          "What an enforced guard adds to a call at most; rules that run in the gateway take microseconds.", "s", width=8),
    Panel("Hits, with bounds", [Query(f"{BY_GUARD} (gateway_guard_hit_ratio)", "{{guard}}"),
                                Query(f"{BY_GUARD} (gateway_guard_hit_ratio_low)", "low {{guard}}"),
                                Query(f"{BY_GUARD} (gateway_guard_hit_ratio_high)", "high {{guard}}")],
          "Share of all calls of the last seven days with a hit, with its 95 % interval, which is wider where hits come in bursts.", "percentunit", low=0),
    Panel("Precision of guards", [Query(f"{BY_GUARD} (gateway_guard_precision)", "{{guard}}"),
                                  Query(f"{BY_GUARD} (gateway_guard_precision_low)", "low {{guard}}"),
                                  Query(f"{BY_GUARD} (gateway_guard_precision_high)", "high {{guard}}")],
          "Share of the hits that are right, by people's labels (`gateway label next --guard NAME`), with its 95 % interval.", "percentunit", low=0, high=1),
    Panel("Recall of guards", [Query(f"{BY_GUARD} (gateway_guard_recall)", "{{guard}}"),
                               Query(f"{BY_GUARD} (gateway_guard_recall_low)", "low {{guard}}"),
                               Query(f"{BY_GUARD} (gateway_guard_recall_high)", "high {{guard}}")],
          "Share of what should have a hit that has one, with its 95 % interval. Few labels of calls without a hit leave it wide.", "percentunit", low=0, high=1),
    Panel("Labels of guards", [Query(f"{BY_GUARD} (gateway_guard_labels)", "{{guard}}")],
          "Labelled calls with a known probability, on which precision and recall rest.", kind="bargauge", low=0),
    Panel("Hits by key", [Query("max by (guard, key) (gateway_guard_key_hits)", "{{guard}} {{key}}")],
          "Calls of each key within seven days that the guard objects to: what `block` refuses, or would refuse. The twenty keys with most; the others together.", stacked=True),
    Panel("Share of hits by key", [Query("max by (guard, key) (gateway_guard_key_hits) / max by (guard, key) (gateway_guard_key_calls)", "{{guard}} {{key}}")],
          "Share of each key's calls. One key far above the others: exempt it, or mend the rule, before anybody is refused.", "percentunit", low=0),
    Panel("Hits by team", [Query("max by (guard, team) (gateway_guard_team_hits)", "{{guard}} {{team}}")],
          "Calls of each team's keys within seven days that the guard objects to. The twenty teams with most; the others together; keys without a team are none.", stacked=True),
    Panel("Share of hits by team", [Query("max by (guard, team) (gateway_guard_team_hits) / max by (guard, team) (gateway_guard_team_calls)", "{{guard}} {{team}}")],
          "Share of the calls of each team's keys.", "percentunit", low=0),
    Panel("Late decisions", [Query(f'sum by (guard) (rate(gateway_guard_failures_total{{reason=~"timeout|busy"}}{RATE})) / sum by (guard) (rate(gateway_guard_decisions_total{RATE}))', "{{guard}}")],
          "Share of the decisions that missed `deadline_ms` or found no free slot, so that `if_late` decided.", "percentunit", low=0, high=1),
    Panel("Changed guards", [Query(f"{BY_GUARD} (gateway_guard_drift)", "{{guard}}")],
          "1 while the share of hits or the scores of a guard are outside their usual range.",
          kind="state-timeline", steps=((None, "green"), (1.0, "red")), names={"0": ("usual", "green"), "1": ("changed", "red")}),
    Panel("Evidence that a guard has changed", [Query(f"{BY_GUARD} (gateway_guard_drift_log_evalue)", "{{guard}}")],
          "ln of the e-detector, by quarters of an hour. The alarm is on from 11.5; around 0 nothing has changed."),
])  # fmt: skip

EVALUATION = Dashboard(
    "assay-evaluation", "Assay Gateway: evaluation", "Weighted means with bounds, the ledger, freshness, judges and budgets.",
    [Variable("scorer", "Scorer", "label_values(gateway_eval_scores_total, scorer)", "Whose opinion"),
     Variable("model", "Model", "label_values(gateway_eval_scores_total, model)", "The model that answered")],
    [NOW, MEANS, ALIASES, WINDOWS, LEDGER, JUDGES, PREDICTOR, PEOPLE, GUARDS],
)  # fmt: skip
