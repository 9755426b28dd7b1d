"""Guards: what they stop, how often they are right, and whether they have changed."""

from __future__ import annotations

from panels import Dashboard, Panel, Query, Row, estimate

RATE = "[$__rate_interval]"
BY_GUARD = "max by (guard)"

NOW = Row("Now", [
    Panel("Hits of guards", [
        Query(f'sum by (guard, action) (rate(gateway_guard_decisions_total{{result="hit"}}{RATE})) / sum by (guard, action) (rate(gateway_guard_decisions_total{RATE}))', "{{guard}} {{action}}")],
          "Share of the decisions of each guard that are a hit, by the action in force: with `observe`, what `block` would refuse.",
          "percentunit", width=8),
    Panel("Guards without a decision", [
        Query(f"sum by (guard, reason) (rate(gateway_guard_failures_total{RATE}))", "{{guard}}: {{reason}}"),
        Query("max by (guard) (gateway_guard_failing)", "{{guard}} fails")],
          "Calls that a guard could not judge, so that `if_late` decided; and guards whose last decisions have all failed.", "ops", width=8),
    Panel("Time of a guard's decision", [
        Query(f"histogram_quantile(0.99, sum by (le, guard) (rate(gateway_guard_seconds_bucket{RATE})))", "p99 {{guard}}")],
          "The most that 99 of 100 calls wait for a guard. Rules that run in the gateway take microseconds.", "s", width=8),
], opened=True)  # fmt: skip

RIGHT = Row("Hits, and how many are right", [
    Panel("Hits, with bounds", estimate("gateway_guard_hit_ratio", "", "guard", "{{guard}}"),
          "Share of all calls of the last seven days with a hit, with its 95 % interval, which is wider where hits come in bursts.", "percentunit", low=0),
    Panel("Precision of guards", [
        *estimate("gateway_guard_precision", "", "guard", "{{guard}}"),
        Query(f"{BY_GUARD} (gateway_guard_labels)", "labels, {{guard}}", dashed=True, unit="short")],
          "Share of the hits that are right, by people's labels (`gateway label next --guard NAME`), with its 95 % interval. On the right: the labelled calls behind it and behind recall.", "percentunit", low=0, high=1),
    Panel("Recall of guards", estimate("gateway_guard_recall", "", "guard", "{{guard}}"),
          "Share of what should have a hit that has one, with its 95 % interval. Few labels of calls without a hit leave it wide.", "percentunit", low=0, high=1),
])  # fmt: skip

WHO = Row("Whose calls", [
    Panel("Share of hits by key", [Query("max by (guard, key) (gateway_guard_key_hits) / max by (guard, key) (gateway_guard_key_calls)", "{{guard}} {{key}}"),
                                   Query("max by (guard, key) (gateway_guard_key_hits)", "hits, {{guard}} {{key}}", dashed=True, unit="short")],
          "Share of each key's calls of seven days that the guard objects to, and on the right how many: what `block` refuses, or would refuse. The twenty keys with most; the others together. One key far above the others: exempt it, or mend the rule, before anybody is refused.", "percentunit", low=0),
    Panel("Share of hits by team", [Query("max by (guard, team) (gateway_guard_team_hits) / max by (guard, team) (gateway_guard_team_calls)", "{{guard}} {{team}}"),
                                    Query("max by (guard, team) (gateway_guard_team_hits)", "hits, {{guard}} {{team}}", dashed=True, unit="short")],
          "The same by the team of the keys; keys without a team are none.", "percentunit", low=0),
])  # fmt: skip

CHANGE = Row("Changes", [
    Panel("Changed guards", [Query(f"{BY_GUARD} (gateway_guard_drift)", "{{guard}}")],
          "changed: the guard hits more or less often than usual, or its scores have moved.",
          kind="state-timeline", steps=((None, "green"), (1.0, "red")), names={"0": ("usual", "green"), "1": ("changed", "red")}),
    Panel("Evidence that a guard has changed", [Query(f"{BY_GUARD} (gateway_guard_drift_log_evalue)", "{{guard}}")],
          "How strong the evidence is that a guard has changed, by quarters of an hour. Around 0: nothing has. The alarm is on from 11.5; the scale is the natural logarithm of an e-detector."),
])  # fmt: skip

GUARDS = Dashboard(
    "assay-guards", "Assay Gateway: guards", "What guards stop, how often they are right, and whether that has changed.", [],
    [NOW, RIGHT, WHO, CHANGE],
)  # fmt: skip
