"""Experiments: differences with bounds against the margin, gates, guardrails, and cost."""

from __future__ import annotations

from panels import ALARM, Dashboard, Panel, Query, Row, Variable, estimate, stat

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
          "hold: undecided, or a gate is not green; ship: not worse than the margin, guardrails hold; ship except: the same without some segments; reject: worse. Valid at any time. `gateway report NAME` states it in a sentence.", kind="stat", names=VERDICTS),
    stat("Pairs", f"sum(max by (experiment) (gateway_experiment_pairs_total{OF}))", "Completed pairs so far."),
    stat("Running", f"sum(max by (experiment) (gateway_experiment_running{OF}))", "Experiments whose plan is active in a gateway."),
    stat("Shadows in flight", f"sum(gateway_shadow_running{OF})", "Current requests to candidates, in addition to served traffic."),
    stat("Paused", f"sum(max by (experiment) (gateway_shadow_paused{OF}))",
         "Experiments whose shadows are paused because they slowed served calls down.", steps=ALARM),
    stat("Cost", f"3600 * sum(rate(gateway_shadow_cost_usd_total{OF}{RATE}))", "USD per hour spent on shadows at the current rate.",
         "currencyUSD"),
    Panel("Best of several candidates", [Query(f"max by (experiment, candidate) (gateway_experiment_best{ONE})", NAMED)],
          "Only of experiments with `family: best`. dropped: another candidate is better, or the control is; it gets no more shadows. best: not worse than the control, nor than any remaining candidate.", kind="stat", names=RANKS),
], opened=True)  # fmt: skip

DIFFERENCE = Row("Difference from the control", [
    Panel("$metric", [*estimate("gateway_experiment_difference", METRIC, BY, NAMED),
                      Query(f"-max by ({BY}) (gateway_experiment_margin{METRIC})", f"margin {NAMED}", dashed=True)],
          "Candidate minus control; positive is better. Whole interval above the margin line: not worse by more than the margin. The interval is valid at any time.", repeat="metric"),
])  # fmt: skip

LEFT = Row("Progress to the verdict", [
    stat("Requests remaining", f"max(gateway_experiment_requests_needed{ONE})",
         "Eligible requests until the verdict, if the difference and its variance stay as they are. 0: there is a verdict; no value: no estimate yet."),
    stat("Time remaining", f"max(gateway_experiment_seconds_needed{ONE})", "Time until the verdict, at the current rate of pairs.", "s"),
    Panel("Pairs remaining", [Query(f"max by (experiment, candidate, kind, condition) (gateway_experiment_pairs_needed{ONE})",
                                "{{experiment}} {{candidate}} {{kind}} {{condition}}")],
          "By open condition: primary metric, guardrails, gates. The longest bar determines the verdict.", kind="bargauge", low=0),
    Panel("Open conditions", [Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_low{ONE})", "low {{experiment}} {{candidate}} {{condition}}"),
                              Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_high{ONE})", "high {{experiment}} {{candidate}} {{condition}}")],
          "The interval of each. For the aa gate it is the control against itself, which must lie inside the margin."),
    Panel("Pairs per open condition", [Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_pairs{ONE})", "{{experiment}} {{candidate}} {{condition}}")],
          "The aa gate counts only pairs with a repeat of the control; a metric counts only pairs that its scorer scored."),
])  # fmt: skip

RATED, RATED_NAME = "experiment, candidate, metric, arm", "{{experiment}} {{candidate}} {{metric}} {{arm}}"
COUNTED = Query(
    f"max by ({RATED}) (gateway_experiment_feedback_answers{ONE})", f"answers, {RATED_NAME}", dashed=True, unit="short"
)
FEEDBACK = Row("People's feedback (splits)", [
    Panel("Mean by arm", [Query(f"max by ({RATED}) (gateway_experiment_feedback_mean{ONE})", RATED_NAME), COUNTED],
          "Weighted means of feedback that was given in time. `feedback:thumb`: the share of thumbs that are up."),
    Panel("Share of answers with feedback", [Query(f"max by ({RATED}) (gateway_experiment_feedback_answered_ratio{ONE})", RATED_NAME), COUNTED],
          "Of the answers whose window has closed. If the arms differ here, the means are of different people's answers.", "percentunit", low=0, high=1),
])  # fmt: skip

EVIDENCE = Row("Evidence", [
    Panel("Distance to the margin", [Query(f"max by ({BY}) (gateway_experiment_difference_low{METRIC}) + max by ({BY}) (gateway_experiment_margin{METRIC})",
                                           "{{experiment}} {{candidate}} {{metric}}")],
          "Lower bound plus margin, for the primary metric and each guardrail: above 0 the condition holds. `ship` needs all of them.",
          kind="bargauge", steps=((None, "red"), (0.0, "green"))),
    Panel("Log e-value", [Query(f"max by ({BY}) (gateway_experiment_log_evalue{METRIC})", "{{experiment}} {{candidate}} {{metric}}")],
          "Evidence against the hypothesis of no difference; 3.0 corresponds to 1 in 20, 4.6 to 1 in 100, valid at any time.",
          steps=((None, "blue"), (3.0, "orange"))),
    Panel("Pairs per metric", [Query(f"max by ({BY}) (gateway_experiment_metric_pairs{METRIC})", "{{experiment}} {{candidate}} {{metric}}")],
          "Number of pairs (in a split: units) that each difference is based on."),
])  # fmt: skip

VALIDITY = Row("Gates", [
    Panel("Gates", [Query(f"max by (experiment, candidate, gate) (gateway_experiment_gate{ONE})", "{{experiment}} {{candidate}} {{gate}}")],
          "A verdict needs all gates green. A/A: the control against itself; losses: both arms lose pairs at the same rate; SRM: the arms receive their planned shares.", kind="state-timeline", steps=COLOURS, names=GATES),
    Panel("Sample ratio, p", [Query(f"min by (experiment, candidate) (gateway_experiment_srm_p{ONE})", NAMED)],
          "Splits only. A sequential p-value: a small value at any time means that the arms did not receive their planned shares.", low=0, high=1,
          steps=((None, "red"), (0.001, "green"))),
    Panel("Pairs without a comparison", [Query(f"max by (experiment, candidate, reason) (gateway_experiment_withheld_total{ONE})", "{{experiment}} {{candidate}} {{reason}}")],
          "Pairs that were drawn but lost, or not judged. A gate compares their rates by arm, so that losses cannot favour one arm."),
])  # fmt: skip

ARMS = Row("Arms", [
    Panel("Shadow requests", [Query(f"sum by (experiment, arm, result) (rate(gateway_shadow_total{OF}{RATE}))", "{{experiment}} {{arm}} {{result}}")],
          "ok, failed, late: sent. The others were not sent, by reason: nothing is queued.", "ops"),
    Panel("Calls in a split", [Query(f"sum by (experiment, arm, result) (rate(gateway_split_total{OF}{RATE}))", "{{experiment}} {{arm}} {{result}}")],
          "elsewhere, continued: another target answered, so the call does not count for its arm.", "ops"),
    Panel("Learned routes by leaf", [Query(f"sum by (route, leaf, target) (rate(gateway_route_calls_total{RATE}))", "{{route}}/{{leaf}} {{target}}")],
          "Calls that a learned route decided, by group of requests: moved to the cheaper target, or kept on the control.", "ops", stacked=True),
    Panel("Leaves taken back", [Query("max by (route) (gateway_route_leaves_returned)", "{{route}}")],
          "Groups of requests that a learned route moved and that go to the control again, since their loss is shown to be too large.",
          steps=((None, "green"), (1, "red"))),
    Panel("Shadow tokens", [Query(f"sum by (experiment, arm) (rate(gateway_shadow_tokens_total{OF}{RATE}))", "{{experiment}} {{arm}}")],
          "Input and output tokens per second.", stacked=True),
    Panel("Shadow cost", [Query(f"3600 * sum by (experiment, arm) (rate(gateway_shadow_cost_usd_total{OF}{RATE}))", "{{experiment}} {{arm}}")],
          "USD per hour, for models with a price.", "currencyUSD", stacked=True),
    Panel("Budgets used today", [Query(f"max by (experiment) (gateway_shadow_budget_used_ratio{OF})", "{{experiment}}")],
          "At 1 no shadow is sent until the next UTC day.", "percentunit", "bargauge",
          steps=((None, "green"), (0.8, "orange"), (1.0, "red")), low=0, high=1),
    Panel("Active and paused", [Query(f"max by (experiment) (gateway_experiment_running{OF})", "{{experiment}} runs"),
                                 Query(f"max by (experiment) (gateway_shadow_paused{OF})", "{{experiment}} paused")],
          "Whether the plan is active, and whether its shadows are paused.", kind="state-timeline",
          names={"0": ("no", "text"), "1": ("yes", "blue")}),
    Panel("Dropped candidates", [Query(f"min by (experiment, arm) (gateway_shadow_dropped{OF})", "{{experiment}} {{arm}}")],
          "Only of experiments with `family: best`. yes: no gateway sends the candidate shadows any more.", kind="state-timeline",
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
    stat("At this step for", f"time() - max(gateway_ramp_since_timestamp_seconds{OF})", "Since the newest step or state of a ramp began.", "s"),
    Panel("Ramp records unread", [Query(f"{RAMPED}(gateway_ramp_stale{OF})", "{{experiment}}")],
          "1: a worker cannot read the record. Its share stays, and can only fall.", kind="state-timeline", names={"0": ("no", "green"), "1": ("yes", "red")}),
    Panel("Changes", [Query(f"max by (experiment, kind) (gateway_ramp_transitions_total{OF})", "{{experiment}} {{kind}}")],
          "In the audit, by what they were."),
    Panel("Webhooks", [Query("max by (webhook, state) (gateway_webhook_deliveries)", "{{webhook}} {{state}}")],
          "pending: not accepted yet; dead: given up after eight attempts in a day.", low=0),
])  # fmt: skip

EXPERIMENTS = Dashboard(
    "assay-experiments", "Assay Gateway: experiments", "Verdict, differences with confidence sequences against their margins, gates, guardrails.",
    [Variable("experiment", "Experiment", "label_values(gateway_experiment_running, experiment)", "As the config names it"),
     Variable("candidate", "Candidate", "label_values(gateway_experiment_verdict, candidate)", "The arm that may take over"),
     Variable("metric", "Metric", "label_values(gateway_experiment_difference, metric)", "Primary metric, guardrails and others")],
    [NOW, RAMP, LEFT, DIFFERENCE, FEEDBACK, EVIDENCE, VALIDITY, ARMS],
)  # fmt: skip
