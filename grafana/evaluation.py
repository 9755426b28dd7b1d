"""Evaluation: means of scores with their intervals, and whether every sampled answer was counted."""

from __future__ import annotations

from alias_scores import ALIASES
from panels import ALARM, Dashboard, Panel, Query, Row, Variable, estimate, stat
from window_means import BY, window_bound, window_mean, window_n

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
         "Recorded calls that were sent to the stream and that nobody can account for: neither stored, nor set aside, nor under way. It must be 0.", steps=ALARM),
    stat("Oldest unscored", "max(gateway_eval_oldest_unscored_seconds)",
         "Age of the oldest exchange that waits for its scores: how fresh the means are.", "s", FRESH),
    stat("Sampled", f"sum(rate(gateway_eval_sampled_total{RATE})) / sum(rate(gateway_eval_seen_total{RATE}))",
         "Share of calls that are recorded. Means are weighted for it.", "percentunit"),
], opened=True)  # fmt: skip

MEANS = Row("Scores by target", [
    Panel("$scorer", [*estimate("gateway_eval_score_mean", SCORE, BY, OF),
                      Query(f"max by ({BY}) (gateway_eval_score_effective_samples{SCORE})", f"n {OF}", dashed=True, unit="short")],
          "The mean over all traffic to a target, of every alias, since this version of the scorer runs. With 95 % certainty the truth lies between the dashed lines, however often you look. On the right: how many scores the mean is worth (Kish).", repeat="scorer"),
])  # fmt: skip

WINDOWS = Row("Trends", [
    Panel("Mean in the window", [Query(window_mean(SCORE, RATE), "{{scorer}} {{model}} {{arm}}"),
                                 Query(window_bound("low", SCORE, RATE), "low {{scorer}} {{model}} {{arm}}", dashed=True),
                                 Query(window_bound("high", SCORE, RATE), "high {{scorer}} {{model}} {{arm}}", dashed=True),
                                 Query(window_n(SCORE, RATE), "n {{scorer}} {{model}} {{arm}}", dashed=True, unit="short")],
          "Weighted mean of the scores in each time step, with its 95 % interval: shows changes that the long-run mean hides. On the right: how many scores it is worth; below 30 there is no interval, so take a longer time range. Where conversations are sampled, they are counted, not calls.", width=12),
    Panel("Mean corrected by human labels", [
        *estimate("gateway_eval_score_corrected_mean", SCORE, BY, "{{scorer}} {{model}} {{arm}}"),
        Query(f"max by ({BY}) (gateway_eval_score_labels{SCORE})", "labels {{scorer}} {{model}} {{arm}}", dashed=True, unit="short")],
          "Only for scorers with labels (`gateway label next`): the mean, corrected for the judge's error rates. On the right: the labels behind it.", width=12),
    Panel("Mean of runs", [
        *estimate("gateway_eval_run_score_mean", OF_MODEL, BY, "{{scorer}} {{model}} {{arm}}"),
        Query(f"max by ({BY}) (gateway_eval_run_score_effective_samples{OF_MODEL})", "n {{scorer}} {{model}} {{arm}}", dashed=True, unit="short")],
          "Scorers of runs, the calls of one task: weighted mean over the runs of the last seven days, with its 95 % interval. On the right: how many runs the mean is worth.", width=12),
    Panel("Score distribution", [Query(f"sum by (le) (max by (le, {BY}) (rate(gateway_eval_score_bucket{SCORE}{RATE})))", "{{le}}")],
          "How scores are spread: the darker, the more calls have such a score.", kind="heatmap", width=12),
])  # fmt: skip

DECISIONS = Row("Decisions", [
    Panel("Probability against people", [Query("max by (scorer) (gateway_calibration_bias)", "bias {{scorer}}"),
                                         Query("max by (scorer) (gateway_calibration_error)", "error {{scorer}}"),
                                         Query("max by (scorer, part) (gateway_calibration_brier)", "Brier {{part}} {{scorer}}", dashed=True),
                                         Query("max by (scorer) (gateway_calibration_labels)", "labels {{scorer}}", dashed=True, unit="short")],
          "For scorers with a certificate. Bias: probability less people's verdict; above 0 it is too sure that answers are good. Error and Brier are for one look: no alarm reads them. On the right: the labels behind them.", width=12),
    Panel("Certificates", [Query("max by (name) (gateway_decision_automated_ratio)", "automated {{name}}", unit="percentunit"),
                           Query('max by (name) (gateway_decision_certificate{state="certified"})', "certified {{name}}", dashed=True),
                           Query("max by (scorer) (gateway_calibration_drift_log_evalue)", "drift {{scorer}}", dashed=True)],
          "Share of the newest traffic in which one may act without a person; 0 once the certificate has lapsed. Drift: ln of the evidence that the probability is no longer true; from 3.0 on certificates lapse.", width=12),
    Panel("Decisions read from chats", [
        Query(f'1 - sum by (alias) (rate(gateway_decision_questions_total{{outcome="answered"}}{RATE})) / sum by (alias) (rate(gateway_decision_questions_total{RATE}))', "without an answer, {{alias}}"),
        Query("max by (alias) (gateway_decision_order_flips_ratio)", "flips {{alias}}"),
        Query(f"histogram_quantile(0.5, sum by (le, alias, reading) (rate(gateway_decision_label_mass_bucket{RATE})))", "label mass {{alias}} by {{reading}}"),
        Query(f"sum by (reading) (rate(gateway_decision_reads_total{RATE}))", "reads by {{reading}}", dashed=True, unit="ops")],
          "Questions that could not be read, answers that change with the order of the options, and the median probability of all options together: far from the probe's figures, the model or its template has changed; probe it again. On the right: the requests.", "percentunit", width=12),
])  # fmt: skip

LEDGER = Row("Ledger", [
    Panel("From seen to stored", [Query(f"sum(rate(gateway_eval_seen_total{RATE}))", "seen"),
                                  Query(f"sum(rate(gateway_eval_sampled_total{RATE}))", "sampled"),
                                  Query(f"sum(rate(gateway_eval_enqueued_total{RATE}))", "enqueued")],
          "Calls seen, recorded, and sent to the stream. Recorded calls that are not sent were dropped: the next panel says why.", "ops"),
    Panel("Drops by reason", [Query(DROPS, "{{reason}}")],
          "buffer_full: the stream server is unreachable or slow; shutdown: a gateway stopped before the server was reachable again; gateway_lost, stream_lost: a process was killed, or the server lost its last second of data.", "ops", steps=ALARM),
    Panel("Not sampled, by reason", [Query(f"sum by (reason) (rate(gateway_eval_unsampled_total{RATE}))", "{{reason}}")],
          "not_drawn: the sampling rate; opted_out: a key's `sample: never`; forbidden: a header.", "ops", stacked=True),
])  # fmt: skip

JUDGES = Row("Scorers and judges", [
    Panel("Scores by status", [Query(f"sum by (scorer, status) ({SCORES})", "{{scorer}} {{status}}")],
          "scored: there is a value; not_applicable: there was nothing to measure. error, timeout and budget: the scorer gave no value.", "ops"),
    Panel("Nonresponse", [Query('sum by (scorer) (max by (scorer, model, arm, status) (gateway_eval_scores_total{scorer=~"$scorer", status=~"error|timeout|budget"})) / sum by (scorer) (max by (scorer, model, arm, status) (gateway_eval_scores_total{scorer=~"$scorer"}))', "{{scorer}}")],
          "Share of calls for which the scorer gave no value: an error, a missed deadline or a spent budget. The mean is of the others only.",
          "percentunit", steps=((None, "green"), (0.02, "orange"), (0.1, "red")), low=0, high=1),
    Panel("Blocked", [Query("max by (scorer) (gateway_eval_scorer_blocked)", "{{scorer}}")],
          "A scorer with an authentication or billing error, or that repeatedly missed its deadline, is not called.",
          kind="state-timeline", steps=((None, "green"), (1.0, "red")), names={"0": ("asked", "green"), "1": ("blocked", "red")}),
    Panel("Cost of scoring", [Query(f"3600 * max by (scorer) (rate(gateway_eval_cost_usd_total{RATE}))", "{{scorer}}"),
                              Query(f"max by (scorer) (rate(gateway_eval_tokens_total{RATE}))", "tokens, {{scorer}}", dashed=True, unit="short")],
          "USD per hour of judges and other scorers that call a model, and on the right their tokens per second.", "currencyUSD", stacked=True),
    Panel("Budgets used today", [Query("max by (scorer) (gateway_eval_budget_used_ratio)", "{{scorer}}")],
          "At 1 a scorer is paused until the next UTC day; until then its scores have the status budget.", "percentunit", "bargauge",
          steps=USED, low=0, high=1),
])  # fmt: skip

TARGET = "max by (target)"
ASSESSED = Query(f"{TARGET} (gateway_eval_predictor_rows)", "answers, {{target}}", dashed=True, unit="short")
PREDICTED = Query(
    f"sum by (target) (increase(gateway_eval_predictor_exchanges_total{RATE}))",
    "exchanges, {{target}}",
    dashed=True,
    unit="short",
)
PREDICTOR = Row("Predictor and drift", [
    Panel("Variance with the predictor", estimate("gateway_eval_predictor_variance_ratio", "", "target", "{{target}}"),
          "What the model saves, with its 95 % interval. 0.5: half the judged answers suffice for the same precision. Above 1 by more than chance: it does harm, and is not followed.",
          steps=((None, "green"), (1.0, "red"))),
    Panel("Error on unseen answers", [Query(f"{TARGET} (gateway_eval_predictor_error)", "{{target}}"),
                                      Query(f"{TARGET} (gateway_eval_predictor_error_of_mean)", "always the mean, {{target}}"),
                                      Query(f"{TARGET} (gateway_eval_predictor_psi)", "largest PSI, {{target}}"), ASSESSED],
          "How far predictions miss on average, next to always guessing the mean, over the answers on the right. PSI: how far requests have moved from those it learned from; above 0.2 is far."),
    Panel("Ranking and calibration", [Query(f"{TARGET} (gateway_eval_predictor_auc)", "AUC {{target}}"),
                                      Query(f"{TARGET} (gateway_eval_predictor_slope)", "slope {{target}}"), ASSESSED],
          "AUC: how often the model ranks a good answer above a poor one; 0.5 is guessing. Slope: 1 if predictions mean what they say. Over the answers on the right."),
    Panel("Drift alarms", [Query("max by (target, alias, kind) (gateway_eval_drift)", "{{alias}} {{kind}}")],
          "quality: answers are better or worse than usual; input: requests or answers look different than usual.",
          kind="state-timeline", steps=((None, "green"), (1.0, "red")), names={"0": ("usual", "green"), "1": ("drift", "red")}),
    Panel("Evidence for drift", [Query("max by (target, alias, kind) (gateway_eval_drift_log_evalue)", "{{alias}} {{kind}}")],
          "How strong the evidence is that something has changed. Around 0: nothing has. The alarm is on from 9.2 (quality) or 11.5 (input); the scale is the natural logarithm of an e-detector."),
    Panel("Share judged, and whether the model is followed", [Query(f"{TARGET} (gateway_eval_predictor_inclusion_mean)", "judged {{target}}"),
                                                              Query(f"{TARGET} (gateway_eval_predictor_off)", "off {{target}}"), PREDICTED,
                                                              Query(f"sum by (target) (rate(gateway_eval_predictor_cpu_seconds_total{RATE}))", "cores used, {{target}}", dashed=True, unit="short")],
          "How likely it is on average that the judge sees a call, over the calls on the right, whose predictions take that many cores. off = 1: the model does harm, so all calls are as likely.", "percentunit", low=0, high=1),
    Panel("Age of the model", [Query(f"time() - {TARGET} (gateway_eval_predictor_trained_timestamp_seconds)", "{{target}}"),
                               Query(f"time() - {TARGET} (gateway_eval_predictor_created_timestamp_seconds)", "training, {{target}}"),
                               Query(f"{TARGET} (gateway_eval_predictor_training_rows)", "answers, {{target}}", dashed=True, unit="short")],
          "Time since the newest answer that the model was trained on, and since the training. On the right: the answers that it was trained on.", "s"),
])  # fmt: skip

EVALUATION = Dashboard(
    "assay-evaluation", "Assay Gateway: evaluation", "Weighted means with bounds, the ledger, freshness, judges and budgets.",
    [Variable("scorer", "Scorer", "label_values(gateway_eval_scores_total, scorer)", "Whose opinion"),
     Variable("model", "Model", "label_values(gateway_eval_scores_total, model)", "The model that answered")],
    [NOW, ALIASES, MEANS, WINDOWS, DECISIONS, LEDGER, JUDGES, PREDICTOR],
)  # fmt: skip
