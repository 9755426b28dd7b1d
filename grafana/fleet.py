"""Fleet: the processes themselves: workers, recorder, stream, consumers, dead letters, configs."""

from __future__ import annotations

from panels import ALARM, MUST_BE_ONE, Dashboard, Panel, Query, Row, stat

RATE = "[$__rate_interval]"
FILL = ((None, "green"), (0.5, "orange"), (0.9, "red"))
BOTH = {"0": ("no", "red"), "1": ("yes", "green")}

NOW = Row("Now", [
    stat("Workers", "sum(gateway_workers)", "Worker processes that run, over all gateways."),
    stat("Consumers", "max(gateway_eval_consumers)", "Consumers that are alive.", steps=MUST_BE_ONE),
    Panel("Stream server", [Query("min by (instance) (gateway_stream_up)", "{{instance}}")],
          "no: at least one worker of the gateway cannot record calls. Answers do not wait for that.", kind="stat", width=4, steps=MUST_BE_ONE, names=BOTH),
    Panel("Config", [Query("min by (instance) (gateway_config_ok)", "{{instance}}")],
          "Whether each gateway uses the newest gateway.yaml. no: it rejected the file and uses the previous one; the log says why.",
          kind="stat", width=4, steps=MUST_BE_ONE, names=BOTH),
    stat("Fullest recorder", "max(gateway_recorder_fill_ratio)", "How full the memory for calls that wait to be recorded is. At 100 % the newest are dropped and counted.", "percentunit", FILL),
], opened=True)  # fmt: skip

GATEWAYS = Row("Gateways", [
    Panel("Worker processes", [Query("sum by (instance) (gateway_workers)", "{{instance}}"),
                               Query("max by (instance) (gateway_eval_workers)", "{{instance}}, consumer")],
          "Of each gateway and each consumer. A sawtooth: a worker keeps restarting."),
    Panel("Workers replaced", [Query("max by (instance) (gateway_worker_restarts)", "{{instance}}"),
                               Query("max by (instance) (gateway_eval_worker_restarts)", "{{instance}}, consumer")],
          "Since the gateway or the consumer started; the log has the signal or exit code of each.", steps=ALARM),
    Panel("In flight", [Query("sum by (instance) (gateway_inflight_requests)", "{{instance}}"),
                        Query("sum by (instance) (gateway_websocket_connections)", "{{instance}}, open WebSockets", dashed=True)],
          "Calls in progress, by gateway; a WebSocket may have several. One gateway far above the others: the balancer in front is uneven."),
    Panel("Failing parts", [Query("max by (instance) (gateway_failing_parts)", "{{instance}}"),
                            Query("max by (instance) (gateway_eval_failing_parts)", "{{instance}}, consumer"),
                            Query("max by (instance) (gateway_console_failing_parts)", "{{instance}}, console")],
          "Parts that are paused or fail; /health of the process names them.", steps=ALARM),
    Panel("Different configs", [Query("count(count_values(\"config\", gateway_config_hash))", "configs"),
                                Query("time() - min by (instance) (gateway_config_loaded_timestamp_seconds)", "age, {{instance}}", dashed=True, unit="s")],
          "More than one for longer than a rollout takes: an instance did not get the newest file. On the right: how long each gateway has used its config; the oldest one has not reloaded.", steps=((None, "green"), (2.0, "orange"))),
    Panel("Days until models retire", [Query("min by (upstream, model) (gateway_target_retires_timestamp_seconds > 0) / 86400 - time() / 86400",
                                             "{{upstream}}/{{model}}")],
          "By `retires` of a target, else by the built-in list. Below 0: it has retired.", "d",
          steps=((None, "red"), (7.0, "orange"), (60.0, "green"))),
])  # fmt: skip

RECORDER = Row("Recorder", [
    Panel("Buffer usage", [Query("max by (instance) (gateway_recorder_fill_ratio)", "{{instance}}"),
                           Query("sum by (instance) (gateway_recorder_waiting)", "records, {{instance}}", dashed=True, unit="short")],
          "Share of `stream.buffer_mb` in use, in the worker with the fullest buffer. On the right: the records that wait to be appended; they grow while the stream server is slow or unreachable.", "percentunit", steps=FILL, low=0, high=1),
    Panel("Trimmed unread", [Query("max(gateway_eval_trimmed_unread_total)", "trimmed unread")],
          "Entries removed by `stream.max_mb` or `max_age_h` before a consumer read them: add consumers.", steps=ALARM),
])  # fmt: skip

KEYS = Row("Keys", [
    Panel("Age of the keys", [Query("max by (instance) (gateway_directory_age_seconds)", "{{instance}}")],
          "Time since the stream server confirmed that nothing is newer. Meanwhile the last known keys stay in force.", "s",
          steps=((None, "green"), (5.0, "orange"), (300.0, "red"))),
    Panel("Malformed records", [Query(f"sum by (instance) (rate(gateway_directory_malformed_total{RATE}))", "{{instance}}")],
          "Records that were skipped; the log names them.", "ops", steps=ALARM),
    Panel("Answers ended by disabling a key", [Query(f"sum by (instance) (increase(gateway_key_ended_total{RATE}))", "{{instance}}")],
          "Answers in flight whose key a person disabled: their clients got an error in the middle of an answer. The audit says who did it."),
    Panel("Versions of the keys", [Query("max(gateway_directory_published_version)", "published"),
                                       Query("min by (instance) (gateway_directory_version)", "in force, {{instance}}"),
                                       Query("max by (instance) (gateway_directory_keys)", "keys, {{instance}}", dashed=True, unit="short")],
          "What the console has published, and what each gateway uses: the same within a second of a change. On the right: the keys in force that gateway.yaml does not name; a gateway with fewer than the others has skipped records."),
    Panel("Keys not published", [Query("max by (instance) (gateway_directory_unpublished)", "{{instance}}")],
          "yes: changes of keys are stored and not in force; the console's log and /ready say why.", kind="state-timeline",
          steps=ALARM, names={"0": ("no", "green"), "1": ("yes", "red")}),
    Panel("Admin requests", [Query(f"sum by (method, status) (rate(gateway_admin_requests_total{RATE}))", "{{method}} {{status}}")],
          "Requests to the admin API.", "ops"),
    Panel("Failed admin logins", [Query(f"sum by (instance) (rate(gateway_admin_failed_logins_total{RATE}))", "{{instance}}")],
          "Requests with a wrong admin token. After ten within a minute an address is refused for the rest of it.", "ops", steps=ALARM),
])  # fmt: skip

STREAM = Row("Stream and consumers", [
    Panel("Entries", [Query("max(gateway_eval_stream_entries)", "in the stream"), Query("max(gateway_eval_stream_waiting)", "not yet delivered"),
                      Query("max(gateway_eval_stream_pending)", "in hand")],
          "Recorded calls on their way to the store: in the stream, not yet taken by a consumer, and in a consumer's hands.", width=8),
    Panel("Dead letters and redelivered", [Query("max by (reason) (gateway_eval_dead_letters_total)", "{{reason}}"),
                            Query("max(gateway_eval_duplicates_total)", "delivered again", dashed=True)],
          "Many that were delivered again after they were stored (each counts once): consumers crash or are too slow. The others: entries that could not be processed, with their last error: `gateway dead list|show|replay`.", steps=ALARM),
    Panel("Age of the reported values", [Query("max by (instance) (gateway_eval_shown_age_seconds)", "{{instance}}")],
          "Time since each consumer last updated its metrics. Rises while one is stuck.", "s", steps=((None, "green"), (60.0, "red"))),
])  # fmt: skip

MODELS = Row("Models", [
    Panel("Days since a change behind a name", [Query("(time() - max by (alias, upstream, model) (gateway_model_unchanged_since_timestamp_seconds)) / 86400",
                                                      "{{alias}} → {{upstream}}/{{model}}")],
          "Falls to 0 when answers name another model or fingerprint, when they differ from their baseline, or when probes get other answers: `gateway models` says what changed and what can be done.", width=12),
    Panel("Cached share by model", [Query("max by (alias, upstream, model) (gateway_model_cached_ratio)", "{{alias}} → {{upstream}}/{{model}}")],
          "Input tokens that the provider read from its cache, in the last seven days. A fall costs money: a router that spreads sessions, or a prompt whose beginning changes with each call.", "percentunit", width=12),
])  # fmt: skip

FLEET = Dashboard(
    "assay-fleet", "Assay Gateway: fleet", "Workers, recorder, stream, consumers, dead letters.", [],
    [NOW, GATEWAYS, KEYS, RECORDER, STREAM, MODELS],
)  # fmt: skip
