"""Experiments: may one switch models? Differences with bounds against the margin, gates, guardrails, and what it costs."""

from __future__ import annotations

from panels import ALARM, Dashboard, Panel, Query, Row, Variable, stat

RATE = "[$__rate_interval]"
OF = '{experiment=~"$experiment"}'
ONE = '{experiment=~"$experiment", candidate=~"$candidate"}'
METRIC = '{experiment=~"$experiment", candidate=~"$candidate", metric=~"$metric"}'
BY = "experiment, candidate, metric"
NAMED = "{{experiment}} {{candidate}}"
VERDICTS = {"1": ("hold", "blue"), "2": ("ship", "green"), "3": ("reject", "red")}
VERDICT = (
    'max by (experiment, candidate) (1 * (gateway_experiment_verdict{experiment=~"$experiment", candidate=~"$candidate", verdict="hold"} == 1) '
    'or 2 * (gateway_experiment_verdict{experiment=~"$experiment", candidate=~"$candidate", verdict="ship"} == 1) '
    'or 3 * (gateway_experiment_verdict{experiment=~"$experiment", candidate=~"$candidate", verdict="reject"} == 1))'
)
GATES = {"-1": ("red", "red"), "0": ("unknown", "yellow"), "1": ("green", "green")}
COLOURS = ((None, "red"), (0.0, "yellow"), (1.0, "green"))

NOW = Row("Now", [
    Panel("Verdict", [Query(VERDICT, NAMED)],
          "hold: undecided, or a gate is not green; ship: not worse than the margin, guardrails hold; reject: worse. It may be "
          "read at any moment. `gateway report NAME` says it in a sentence.", kind="stat", names=VERDICTS),
    stat("Pairs", f"sum(max by (experiment) (gateway_experiment_pairs_total{OF}))", "Pairs settled so far."),
    stat("Running", f"sum(max by (experiment) (gateway_experiment_running{OF}))", "Experiments whose plan is in force in a gateway."),
    stat("Shadows under way", f"sum(gateway_shadow_running{OF})", "Requests to candidates now, beside served traffic."),
    stat("Paused", f"sum(max by (experiment) (gateway_shadow_paused{OF}))",
         "Experiments whose shadows wait because served answers were slower beside them.", steps=ALARM),
    stat("Cost", f"3600 * sum(rate(gateway_shadow_cost_usd_total{OF}{RATE}))", "USD an hour that shadows cost at the present rate.",
         "currencyUSD"),
])  # fmt: skip

DIFFERENCE = Row("Difference to the control", [
    Panel("$metric", [Query(f"max by ({BY}) (gateway_experiment_difference{METRIC})", NAMED),
                      Query(f"max by ({BY}) (gateway_experiment_difference_low{METRIC})", f"low {NAMED}"),
                      Query(f"max by ({BY}) (gateway_experiment_difference_high{METRIC})", f"high {NAMED}"),
                      Query(f"-max by ({BY}) (gateway_experiment_margin{METRIC})", f"margin {NAMED}")],
          "Candidate against control, positive is better. The whole interval above the margin's line: not worse by more than "
          "the margin. The interval holds at every moment.", repeat="metric"),
])  # fmt: skip

LEFT = Row("What is left until the verdict", [
    stat("Requests to go", f"max(gateway_experiment_requests_needed{ONE})",
         "Eligible requests until the verdict, if the difference and its spread stay as they are. 0: there is a verdict; no value: nobody can tell."),
    stat("Time to go", f"max(gateway_experiment_seconds_needed{ONE})", "Until the verdict, at the pace of the pairs so far.", "s"),
    Panel("Pairs to go", [Query(f"max by (experiment, candidate, kind, condition) (gateway_experiment_pairs_needed{ONE})",
                                "{{experiment}} {{candidate}} {{kind}} {{condition}}")],
          "By open condition: the primary, guardrails, gates. The verdict waits for the longest bar.", kind="bargauge", low=0),
    Panel("Open conditions", [Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_low{ONE})", "low {{experiment}} {{candidate}} {{condition}}"),
                              Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_high{ONE})", "high {{experiment}} {{candidate}} {{condition}}")],
          "The interval of each. Of the gate aa it is the control against itself, which must come to lie inside the margin."),
    Panel("Pairs behind open conditions", [Query(f"max by (experiment, candidate, condition) (gateway_experiment_condition_pairs{ONE})", "{{experiment}} {{candidate}} {{condition}}")],
          "Only pairs with a repeat of the control count for the gate aa, and only those that a scorer saw for its metric."),
])  # fmt: skip

EVIDENCE = Row("Evidence", [
    Panel("Distance to the margin", [Query(f"max by ({BY}) (gateway_experiment_difference_low{METRIC}) + max by ({BY}) (gateway_experiment_margin{METRIC})",
                                           "{{experiment}} {{candidate}} {{metric}}")],
          "Lower bound plus margin, of the primary metric and each guardrail: above 0 it holds. Ship needs all of them.",
          kind="bargauge", steps=((None, "red"), (0.0, "green"))),
    Panel("Log e-value", [Query(f"max by ({BY}) (gateway_experiment_log_evalue{METRIC})", "{{experiment}} {{candidate}} {{metric}}")],
          "Evidence against no difference at all; 3.0 is 1 in 20, 4.6 is 1 in 100, whenever one looks.",
          steps=((None, "blue"), (3.0, "orange"))),
    Panel("Pairs behind each metric", [Query(f"max by ({BY}) (gateway_experiment_metric_pairs{METRIC})", "{{experiment}} {{candidate}} {{metric}}")],
          "What a difference is made of: pairs, in a split units."),
])  # fmt: skip

VALIDITY = Row("Gates", [
    Panel("Gates", [Query(f"max by (experiment, candidate, gate) (gateway_experiment_gate{ONE})", "{{experiment}} {{candidate}} {{gate}}")],
          "A verdict needs all of them green. A/A: the control against itself; losses: both arms lose alike; SRM: the arms get "
          "their shares.", kind="state-timeline", steps=COLOURS, names=GATES),
    Panel("Sample ratio, p", [Query(f"min by (experiment, candidate) (gateway_experiment_srm_p{ONE})", NAMED)],
          "Splits only. Sequential: small at any moment means that the arms did not get their shares.", low=0, high=1,
          steps=((None, "red"), (0.001, "green"))),
    Panel("Pairs without a comparison", [Query(f"max by (experiment, candidate, reason) (gateway_experiment_withheld_total{ONE})", "{{experiment}} {{candidate}} {{reason}}")],
          "Drawn, but lost on the way or not judged. They are gated by arm, so that they cannot flatter one."),
])  # fmt: skip

ARMS = Row("Arms", [
    Panel("Shadow requests", [Query(f"sum by (experiment, arm, result) (rate(gateway_shadow_total{OF}{RATE}))", "{{experiment}} {{arm}} {{result}}")],
          "ok, failed, late: asked. The others were not asked, and say why: nothing is queued.", "ops"),
    Panel("Calls of a split", [Query(f"sum by (experiment, arm, result) (rate(gateway_split_total{OF}{RATE}))", "{{experiment}} {{arm}} {{result}}")],
          "elsewhere, continued: another target answered, so the call does not count for its arm.", "ops"),
    Panel("Tokens of shadows", [Query(f"sum by (experiment, arm) (rate(gateway_shadow_tokens_total{OF}{RATE}))", "{{experiment}} {{arm}}")],
          "Input and output, a second.", stacked=True),
    Panel("Cost of shadows", [Query(f"3600 * sum by (experiment, arm) (rate(gateway_shadow_cost_usd_total{OF}{RATE}))", "{{experiment}} {{arm}}")],
          "USD an hour, where the model has a price.", "currencyUSD", stacked=True),
    Panel("Budgets of today", [Query(f"max by (experiment) (gateway_shadow_budget_used_ratio{OF})", "{{experiment}}")],
          "At 1 no shadow is asked until the next UTC day.", "percentunit", "bargauge",
          steps=((None, "green"), (0.8, "orange"), (1.0, "red")), low=0, high=1),
    Panel("Running and paused", [Query(f"max by (experiment) (gateway_experiment_running{OF})", "{{experiment}} runs"),
                                 Query(f"max by (experiment) (gateway_shadow_paused{OF})", "{{experiment}} paused")],
          "Whether the plan is in force, and whether its shadows hold back.", kind="state-timeline",
          names={"0": ("no", "text"), "1": ("yes", "blue")}),
])  # fmt: skip

EXPERIMENTS = Dashboard(
    "assay-experiments", "Assay Gateway: experiments", "Verdict, differences with bounds against their margins, gates, guardrails.",
    [Variable("experiment", "Experiment", "label_values(gateway_experiment_running, experiment)", "As the config names it"),
     Variable("candidate", "Candidate", "label_values(gateway_experiment_verdict, candidate)", "The arm that may take over"),
     Variable("metric", "Metric", "label_values(gateway_experiment_difference, metric)", "Primary metric, guardrails and others")],
    [NOW, LEFT, DIFFERENCE, EVIDENCE, VALIDITY, ARMS],
)  # fmt: skip
