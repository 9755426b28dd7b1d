"""Experiments: differences with bounds against the margin, gates, guardrails, and cost."""

from __future__ import annotations

from panels import Dashboard, Panel, Query, Row, Variable, estimate, stat

RATE = "[$__rate_interval]"
OF = '{experiment=~"$experiment"}'
ONE = '{experiment=~"$experiment", candidate=~"$candidate"}'
METRIC = '{experiment=~"$experiment", candidate=~"$candidate", metric=~"$metric"}'
BY = "experiment, candidate, metric"
NAMED = "{{experiment}} {{candidate}}"
VERDICTS = {"1": ("hold", "blue"), "2": ("ship", "green"), "3": ("reject", "red"), "4": ("ship except", "green")}
VERDICT = (
    'max by (experiment, candidate) (1 * (gateway_experiment_verdict{experiment=~"$experiment", candidate=~"$candidate", verdict="hold"} == 1) '
    'or 2 * (gateway_experiment_verdict{experiment=~"$experiment", candidate=~"$candidate", verdict="ship"} == 1) '
    'or 3 * (gateway_experiment_verdict{experiment=~"$experiment", candidate=~"$candidate", verdict="reject"} == 1) '
    'or 4 * (gateway_experiment_verdict{experiment=~"$experiment", candidate=~"$candidate", verdict="ship_except"} == 1))'
)
RANKS = {"-1": ("dropped", "red"), "0": ("compared", "blue"), "1": ("best", "green")}
GATES = {"-1": ("red", "red"), "0": ("unknown", "yellow"), "1": ("green", "green")}
COLOURS = ((None, "red"), (0.0, "yellow"), (1.0, "green"))

NOW = Row("Now", [
    Panel("Verdict", [Query(VERDICT, NAMED)],
          "hold: not decided yet, or a check fails; ship: at most worse by the margin, and every guardrail holds; ship except: the same without some kinds of calls; reject: worse. You may look at any time. `gateway report NAME` says it in a sentence.", kind="stat", names=VERDICTS),
    stat("Pairs", f"sum(max by (experiment) (gateway_experiment_pairs_total{OF}))", "Completed pairs so far."),
    stat("Shadows in flight", f"sum(gateway_shadow_running{OF})", "Copies of requests that candidates answer right now, next to served traffic."),
    Panel("Best of several candidates", [Query(f"max by (experiment, candidate) (gateway_experiment_best{ONE})", NAMED)],
          "Only of experiments with `family: best`. dropped: another candidate is better, or the control is; it gets no more shadows. best: not worse than the control, nor than any remaining candidate.", kind="stat", names=RANKS),
], opened=True)  # fmt: skip

DIFFERENCE = Row("Difference from the control", [
    Panel("$metric", [*estimate("gateway_experiment_difference", METRIC, BY, NAMED),
                      Query(f"-max by ({BY}) (gateway_experiment_margin{METRIC})", f"margin {NAMED}", dashed=True),
                      Query(f"max by ({BY}) (gateway_experiment_metric_pairs{METRIC})", f"pairs, {NAMED}", dashed=True, unit="short")],
          "Candidate minus control: above 0 the candidate is better. Once the lower dashed line is above the margin, it is not worse by more than that. You may look at any time. On the right: its pairs (in a split: units).", repeat="metric"),
])  # fmt: skip

LEFT = Row("Progress to the verdict", [
    stat("Requests remaining", f"max(gateway_experiment_requests_needed{ONE})",
         "How many more calls until the verdict, if things stay as they are. 0: there is a verdict; no value: too early to say."),
    stat("Time remaining", f"max(gateway_experiment_seconds_needed{ONE})", "Time until the verdict, at the current rate of pairs.", "s"),
    Panel("Pairs remaining", [Query(f"max by (experiment, candidate, kind, condition) (gateway_experiment_pairs_needed{ONE})",
                                "{{experiment}} {{candidate}} {{kind}} {{condition}}")],
          "How many more pairs each open condition needs: the metric that decides, guardrails, checks. The verdict waits for the longest bar.", kind="bargauge", low=0),
    Panel("Open conditions", [Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_low{ONE})", "low {{experiment}} {{candidate}} {{condition}}"),
                              Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_high{ONE})", "high {{experiment}} {{candidate}} {{condition}}"),
                              Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_pairs{ONE})", "pairs, {{experiment}} {{candidate}} {{condition}}", dashed=True, unit="short")],
          "What is known of each open condition, as an interval. For aa it is the control against itself, which must lie inside the margin, over the pairs in which it was asked twice. On the right: the pairs of each condition."),
])  # fmt: skip

RATED, RATED_NAME = "experiment, candidate, metric, arm", "{{experiment}} {{candidate}} {{metric}} {{arm}}"
COUNTED = Query(
    f"max by ({RATED}) (gateway_experiment_feedback_answers{ONE})", f"answers, {RATED_NAME}", dashed=True, unit="short"
)
FEEDBACK = Row("People's feedback (splits)", [
    Panel("Mean by arm", [Query(f"max by ({RATED}) (gateway_experiment_feedback_mean{ONE})", RATED_NAME), COUNTED],
          "What people who gave feedback think of each arm; `feedback:thumb` is the share of thumbs that are up. On the right: the answers that are counted."),
    Panel("Share of answers with feedback", [Query(f"max by ({RATED}) (gateway_experiment_feedback_answered_ratio{ONE})", RATED_NAME), COUNTED],
          "Share of the answers on the right that got feedback in time. If the arms differ here, their means are of different people's answers.", "percentunit", low=0, high=1),
])  # fmt: skip

VALIDITY = Row("Gates and evidence", [
    Panel("Gates", [Query(f"max by (experiment, candidate, gate) (gateway_experiment_gate{ONE})", "{{experiment}} {{candidate}} {{gate}}")],
          "Checks that the comparison is fair; a verdict needs all of them green. A/A: the control equals itself; losses: both arms lose as many pairs; SRM: each arm gets its planned share of calls.", kind="state-timeline", steps=COLOURS, names=GATES),
    Panel("Sample ratio, p", [Query(f"min by (experiment, candidate) (gateway_experiment_srm_p{ONE})", NAMED)],
          "Splits only. Near 0 at any time: the arms did not get their planned shares of calls, so that they cannot be compared.", low=0, high=1,
          steps=((None, "red"), (0.001, "green"))),
    Panel("Pairs without a comparison", [Query(f"max by (experiment, candidate, reason) (gateway_experiment_withheld_total{ONE})", "{{experiment}} {{candidate}} {{reason}}")],
          "Pairs that were drawn but lost, or not judged. A gate compares their rates by arm, so that losses cannot favour one arm."),
    Panel("Log e-value", [Query(f"max by ({BY}) (gateway_experiment_log_evalue{METRIC})", "{{experiment}} {{candidate}} {{metric}}")],
          "How strong the evidence for a difference is: 3.0 is as strong as 1 in 20, 4.6 as 1 in 100. You may look at any time. The scale is the natural logarithm of an e-value.",
          steps=((None, "blue"), (3.0, "orange"))),
])  # fmt: skip

ARMS = Row("Arms", [
    Panel("Shadow requests", [Query(f"sum by (experiment, arm, result) (rate(gateway_shadow_total{OF}{RATE}))", "{{experiment}} {{arm}} {{result}}")],
          "Copies of requests to candidates. ok, failed, late: sent. The others were not sent, by reason; nothing is queued.", "ops"),
    Panel("Calls in a split", [Query(f"sum by (experiment, arm, result) (rate(gateway_split_total{OF}{RATE}))", "{{experiment}} {{arm}} {{result}}")],
          "elsewhere, continued: another target answered, so the call does not count for its arm.", "ops"),
    Panel("Learned routes by leaf", [Query(f"sum by (route, leaf, target) (rate(gateway_route_calls_total{RATE}))", "{{route}}/{{leaf}} {{target}}")],
          "Calls that a learned route decided, by group of requests: moved to the cheaper target, or kept on the control.", "ops", stacked=True),
    Panel("Leaves taken back", [Query("max by (route) (gateway_route_leaves_returned)", "{{route}}")],
          "Groups of requests that a learned route moved and that go to the control again, since their loss is shown to be too large.",
          steps=((None, "green"), (1, "red"))),
    Panel("Shadow cost", [Query(f"3600 * sum by (experiment, arm) (rate(gateway_shadow_cost_usd_total{OF}{RATE}))", "{{experiment}} {{arm}}"),
                          Query(f"sum by (experiment, arm) (rate(gateway_shadow_tokens_total{OF}{RATE}))", "tokens, {{experiment}} {{arm}}", dashed=True, unit="short")],
          "USD per hour, for models with a price, and on the right tokens per second. Their experiment pays, no team.", "currencyUSD", stacked=True),
    Panel("Budgets used today", [Query(f"max by (experiment) (gateway_shadow_budget_used_ratio{OF})", "{{experiment}}")],
          "At 1 no shadow is sent until the next UTC day.", "percentunit", "bargauge",
          steps=((None, "green"), (0.8, "orange"), (1.0, "red")), low=0, high=1),
    Panel("Active and paused", [Query(f"max by (experiment) (gateway_experiment_running{OF})", "{{experiment}} runs"),
                                 Query(f"max by (experiment) (gateway_shadow_paused{OF})", "{{experiment}} paused"),
                                 Query(f"min by (experiment, arm) (gateway_shadow_dropped{OF})", "{{experiment}} {{arm}} dropped")],
          "Whether the plan is active; whether its shadows are paused, since they slowed served calls down; which candidates of `family: best` get none any more.", kind="state-timeline",
          names={"0": ("no", "text"), "1": ("yes", "blue")}),
])  # fmt: skip

RAMPED = "max by (experiment) "
STATES = {
    "1": ("shadow", "blue"),
    "2": ("ramp", "yellow"),
    "3": ("promoted", "green"),
    "4": ("rolled back", "red"),
    "5": ("stopped", "text"),
}
STATE = (
    RAMPED
    + "("
    + " or ".join(
        f'{i} * (gateway_ramp_state{{experiment=~"$experiment", state="{state}"}} == 1)'
        for i, state in enumerate(("shadow", "ramp", "promoted", "rolled_back", "stopped"), 1)
    )
    + ")"
)
RAMP = Row("Ramp", [
    Panel("State of the ramp", [Query(STATE, "{{experiment}}")],
          "shadow: the candidate serves nothing; ramp: it serves a share; rolled back: it was worse, or a person decided so. `gateway ab history NAME` says why.",
          kind="state-timeline", names=STATES),
    Panel("Share of the units", [Query(f"{RAMPED}(gateway_ramp_share{OF})", "{{experiment}}"),
                                 Query(f"{RAMPED}(gateway_ramp_decided_share{OF})", "{{experiment}} decided")],
          "Served by the candidate, as gateways apply it and as it was decided: they differ for less than a second.", "percentunit", low=0, high=1),
    Panel("Changes of the ramp", [Query(f"max by (experiment, kind) (increase(gateway_ramp_transitions_total{OF}[$__rate_interval]))", "{{experiment}} {{kind}}")],
          "What happened to a ramp in each time step, by kind: steps, returns, overrides by people. `gateway ab history NAME` has the reason of each.", low=0),
    stat("At this step for", f"time() - max(gateway_ramp_since_timestamp_seconds{OF})", "Since the newest step or state of a ramp began.", "s"),
    Panel("Ramp records unread", [Query(f"{RAMPED}(gateway_ramp_stale{OF})", "{{experiment}}")],
          "1: a worker cannot read the record. Its share stays, and can only fall.", kind="state-timeline", names={"0": ("no", "green"), "1": ("yes", "red")}),
    Panel("Webhooks", [Query("max by (webhook, state) (gateway_webhook_deliveries)", "{{webhook}} {{state}}")],
          "pending: not accepted yet; dead: given up after eight attempts in a day.", low=0),
])  # fmt: skip

EXPERIMENTS = Dashboard(
    "assay-experiments", "Assay Gateway: experiments", "Verdict, differences with confidence sequences against their margins, gates, guardrails.",
    [Variable("experiment", "Experiment", "label_values(gateway_experiment_running, experiment)", "As the config names it"),
     Variable("candidate", "Candidate", "label_values(gateway_experiment_verdict, candidate)", "The arm that may take over"),
     Variable("metric", "Metric", "label_values(gateway_experiment_difference, metric)", "Primary metric, guardrails and others")],
    [NOW, RAMP, LEFT, DIFFERENCE, FEEDBACK, VALIDITY, ARMS],
)  # fmt: skip
