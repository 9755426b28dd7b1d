"""Fleet: the processes themselves: workers, recorder, stream, consumers, dead letters, configs."""

from __future__ import annotations

from panels import ALARM, MUST_BE_ONE, Dashboard, Panel, Query, Row, stat

RATE = "[$__rate_interval]"
FILL = ((None, "green"), (0.5, "orange"), (0.9, "red"))
BOTH = {"0": ("no", "red"), "1": ("yes", "green")}

NOW = Row("Now", [
    stat("Workers", "sum(gateway_workers)", "Worker processes that answer, over all gateways."),
    stat("Consumers", "max(gateway_eval_consumers)", "Consumers that gave a heartbeat of late.", steps=MUST_BE_ONE),
    stat("Stream server", "min(gateway_stream_up)", "Whether every worker's newest append was acknowledged.", steps=MUST_BE_ONE, names=BOTH),
    stat("Config", "min(gateway_config_ok)", "Whether the newest gateway.yaml is in force everywhere. no: it was refused, and the "
         "old one stays; the log says why.", steps=MUST_BE_ONE, names=BOTH),
    stat("Waiting in the stream", "max(gateway_eval_stream_waiting)", "Entries that no consumer has taken yet."),
    stat("Fullest recorder", "max(gateway_recorder_fill_ratio)", "At 1 the newest exchanges are dropped and counted.", "percentunit", FILL),
])  # fmt: skip

GATEWAYS = Row("Gateways", [
    Panel("Workers", [Query("sum by (instance) (gateway_workers)", "{{instance}}")], "By gateway; one that restarts again and again "
          "shows as a saw.", stacked=True),
    Panel("In flight", [Query("sum by (instance) (gateway_inflight_requests)", "{{instance}}")], "Calls being answered, by gateway.", stacked=True),
    Panel("Config in force", [Query("min by (instance) (gateway_config_ok)", "{{instance}}")], "no: the newest file was refused there.",
          kind="state-timeline", steps=MUST_BE_ONE, names=BOTH),
    Panel("Different configs", [Query("count(count_values(\"config\", gateway_config_hash))", "configs")],
          "More than one for longer than a rollout takes: an instance did not get the newest file.", steps=((None, "green"), (2.0, "orange"))),
    Panel("Age of the config", [Query("time() - min by (instance) (gateway_config_loaded_timestamp_seconds)", "{{instance}}")],
          "Since the config in force was loaded.", "s"),
])  # fmt: skip

RECORDER = Row("Recorder", [
    Panel("Waiting to be appended", [Query("sum by (instance) (gateway_recorder_waiting)", "{{instance}}")],
          "Exchanges in memory. It rises while the stream server is slow or away.", stacked=True),
    Panel("Buffer taken", [Query("max by (instance) (gateway_recorder_fill_ratio)", "{{instance}}")],
          "Of `stream.buffer_mb`, in the fullest worker.", "percentunit", steps=FILL, low=0, high=1),
    Panel("Stream server reached", [Query("min by (instance) (gateway_stream_up)", "{{instance}}")],
          "Requests go on without it; recording waits.", kind="state-timeline", steps=MUST_BE_ONE, names=BOTH),
    Panel("Appended", [Query(f"sum by (instance) (rate(gateway_eval_enqueued_total{RATE}))", "{{instance}}")],
          "Exchanges a second that the stream server acknowledged.", "ops", stacked=True),
    Panel("Dropped", [Query(f"sum by (instance, reason) (rate(gateway_eval_dropped_total{RATE}))", "{{instance}} {{reason}}")],
          "Sampled exchanges that were lost, each with its reason.", "ops", steps=ALARM),
    Panel("Left the stream unread", [Query("max(gateway_eval_trimmed_unread_total)", "trimmed unread")],
          "Entries that `stream.max_mb` or `max_age_h` removed before a consumer read them: more consumers are needed.", steps=ALARM),
])  # fmt: skip

STREAM = Row("Stream and consumers", [
    Panel("Entries", [Query("max(gateway_eval_stream_entries)", "in the stream"), Query("max(gateway_eval_stream_waiting)", "not yet taken"),
                      Query("max(gateway_eval_stream_pending)", "in hand")],
          "What is taken and stored leaves the stream.", width=8),
    Panel("Lag", [Query("max(gateway_eval_oldest_unscored_seconds)", "oldest unscored")],
          "Age of the oldest exchange not yet scored: add consumers when it grows.", "s", steps=((None, "green"), (60.0, "orange"), (300.0, "red"))),
    Panel("Consumers alive", [Query("max(gateway_eval_consumers)", "consumers")],
          "A consumer that died is missed after three heartbeats; what it held is taken over.", steps=MUST_BE_ONE),
    Panel("Scored", [Query(f"sum by (scorer) (max by (scorer, model, arm, status) (rate(gateway_eval_scores_total{RATE})))", "{{scorer}}")],
          "Scores a second, all statuses.", "ops", stacked=True),
    Panel("Dead letters", [Query("max by (reason) (gateway_eval_dead_letters_total)", "{{reason}}")],
          "Entries given up, with their last error: `gateway dead list|show|replay`.", steps=ALARM),
    Panel("Came twice", [Query("max(gateway_eval_duplicates_total)", "duplicates")],
          "Exchanges delivered again after they were stored: harmless, counted once. Many: consumers die or are too slow."),
    Panel("Age of the figures", [Query("max by (instance) (gateway_eval_shown_age_seconds)", "{{instance}}")],
          "Since each consumer last came round. It rises while one is stuck.", "s", steps=((None, "green"), (60.0, "red"))),
])  # fmt: skip

FLEET = Dashboard(
    "assay-fleet", "Assay Gateway: fleet", "Workers, recorder, stream, consumers, dead letters.", [],
    [NOW, GATEWAYS, RECORDER, STREAM],
)  # fmt: skip
