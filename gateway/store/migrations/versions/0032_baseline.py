"""The tables of a store before its first release, as the migrations 0001 to 0032 left them."""

import re
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = None

# NAME[*][:TYPE][?][=DEFAULT]: * is of the key, ? may be NULL; without a type it is text.
_TABLES = {
    "audit": "id* at:double actor role action kind subject before? after?",
    "console_links": "digest* expires:double",
    "console_sessions": "digest* name role content:boolean token created:double expires:double",
    "counters": "name* n:bigint",
    "dead_letters": "entry* reason error at:double incarnation? seq:bigint?",
    "directory_state": "id*:integer epoch version:bigint",
    "drift_states": "scorer* alias* state at:double",
    "exchanges": """
        id* pair? received:double caller api alias upstream model role experiment? plan? arm? stream:boolean form
        truncated:boolean spliced:boolean status:integer outcome error? finish_reason? tokens:bigint?
        input_tokens:bigint? output_tokens:bigint? cached_input_tokens:bigint? reasoning_tokens:bigint?
        first_token_s:double? total_s:double cost_usd:double? upstream_id? client_id? attempts unit u:double pi:double
        stratum incarnation seq:bigint request:bytes response:bytes text reasoning refusal tool_calls choices:integer
        mean_logprob:double? stored:double position? cluster? bytes:bigint=0 reference? request_digest? variant?
        user_digest? likelihood?
    """,
    "feedback": """
        feedback_id* exchange_id caller at:double name value:double? label? comment? correction? data_type=numeric
        resolved?
    """,
    "gaps": """
        incarnation* low_seq:bigint high_seq*:bigint shard:integer from_position to_position missing:bigint reason
    """,
    "incidents": "shard*:integer from_position to_position* reason*",
    "increments": """
        plan* candidate* metric* identity* pair* place:bigint cluster? a:double b:double difference:double
    """,
    "keys": """
        id* limits disabled:boolean created:double updated:double deleted:double? version:bigint name team? models? tags
        allow sample content? expires:double? end_streams:boolean digests networks?
    """,
    "labels": """
        label_id* scorer subject subject_id labeller status value:double? label? comment? version config_hash pool
        favour:double threshold:double? share:double? horizon:double at:double
    """,
    "leases": "name* holder expires:double",
    "ledgers": """
        incarnation* closed_seq:bigint enqueued:bigint settled:bigint shard:integer=0 taken:bigint=0
        gateway_lost:bigint=0 closed_position= tally_position= state= usage_merged:boolean=0
    """,
    "marks": "incarnation* position* last_seq:bigint enqueued:bigint shard:integer=0",
    "organizations": """
        id* limits disabled:boolean created:double updated:double deleted:double? version:bigint
    """,
    "pair_scores": """
        score_id* pair arm exchange_id experiment plan scorer version config_hash kind direction status value:double?
        label? explanation? detail? standard_error:double? cost_usd:double? judge_model? tokens:bigint? seconds:double
        created:double
    """,
    "pairs": "id* experiment plan position received:double cluster? asked state reason? place:bigint? arms?",
    "plans": "plan* experiment json state since:double first_seen:double",
    "prediction_sums": """
        scorer* version* config_hash* alias* model* arm* stratum* n:bigint failed:bigint s_failed:double s_b:double
        s_d:double s_e1:double s_e2:double s_bb:double s_bd:double s_be1:double s_be2:double s_dd:double s_de1:double
        s_de2:double s_e1e1:double s_e1e2:double s_e2e2:double
    """,
    "predictions": """
        exchange_id* scorer* version predicted:double? residual:double? pi:double judged:boolean received:double alias
        model stratum feature_set features:bytes
    """,
    "predictor_models": """
        version* target created:double trained_from:double trained_to:double rows:bigint model card features
    """,
    "ramp_events": "id* experiment plan version:bigint at:double actor kind reason before? record evidence",
    "replay_answers": """
        replay* item*:bigint target* repeat*:integer answer_id cluster outcome status:integer? error? upstream? model?
        finish_reason? input_tokens:bigint? output_tokens:bigint? cached_input_tokens:bigint? reasoning_tokens:bigint?
        cost_usd:double? seconds:double asked:double exchange_id? text response:bytes
    """,
    "replays": "name* dataset dataset_hash config_hash design created:double",
    "score_buckets": """
        scorer* version* config_hash* alias* model* arm* stratum* bucket*:integer n:bigint spent:bigint weight:double
        more:double=0 spent_more:double=0
    """,
    "score_cells": """
        scorer* version* config_hash* alias* model* arm* stratum* n_scored:bigint n_not_applicable:bigint n_error:bigint
        n_timeout:bigint n_budget:bigint total:double squares:double inverse_pi:double population:bigint
        spent_scored:bigint spent_not_applicable:bigint spent_samples:bigint spent_total:double spent_population:bigint
        weighted_sum:double weight:double unit_sizes:double=0 unit_products:double=0 unit_squares:double=0
        more_scored:double=0 spent_more_scored:double=0 more_answered:double=0 spent_more_answered:double=0
        more_total:double=0 spent_more_total:double=0
    """,
    "score_costs": "scorer* usd:double tokens:bigint",
    "score_units": """
        scorer* version* config_hash* alias* model* arm* stratum* unit* n:bigint total:double at:double
    """,
    "scores": """
        score_id* exchange_id* subject experiment? plan? arm? scorer version config_hash repeat:integer kind direction
        data_type status value:double? label? value01:double? explanation? detail? standard_error:double? pi:double
        stratum cost_usd:double? judge_model? tokens:bigint? seconds:double answered:double created:double distribution?
    """,
    "sequences": "plan* candidate* metric* identity* n:bigint state updated:double",
    "stream_nodes": "shard*:integer run_id confirmed trimmed_to",
    "tallies": "incarnation* ledger* stratum* alias* target* arm* reason* n:bigint",
    "teams": """
        id* limits disabled:boolean created:double updated:double deleted:double? version:bigint organization? models?
        tags networks?
    """,
    "trails": "plan* candidate* metric* identity* n*:bigint value:double low:double high:double",
    "turns": "exchange_id* received:double caller scope? question answer reply_to? signs parent?",
    "usage": """
        day* incarnation* key_id* team* organization* tags* alias* upstream* model* experiment* arm* scorer* key_name
        calls:bigint unpriced_calls:bigint estimated_calls:bigint input_tokens:bigint cached_input_tokens:bigint
        output_tokens:bigint reasoning_tokens:bigint nano_usd:bigint
    """,
    "webhook_deliveries": """
        event* webhook* experiment body state attempts:integer created:double due:double ended:double? error?
    """,
    "withheld": "plan* candidate* metric* identity* reason* arm* n:bigint",
}
_KEYS = {"scores": ("exchange_id", "score_id")}  # every other key is in the order of its columns
_IN_ORDER_OF_THE_KEY = ("predictions", "scores", "usage")
"""Tables that SQLite keeps in the order of their keys, without a separate index."""
_COLUMN = re.compile(r"(\w+)(\*?)(?::(\w+))?(\??)(=\S*)?")
_TYPES = {
    "": sa.Text,
    "bigint": sa.BigInteger,
    "boolean": sa.Boolean,
    "bytes": sa.LargeBinary,
    "double": sa.Double,
    "integer": sa.Integer,
}
_UNIQUE = ("keys_name", "replay_answers_id")
_LISTED = "received id alias upstream model variant role outcome status caller total_s cost_usd pi"
_INDEXES = (  # name, table, columns, condition
    ("audit_subject", "audit", "subject id", ""),
    ("exchanges_experiment", "exchanges", "experiment plan", "experiment IS NOT NULL"),
    ("exchanges_found", "exchanges", _LISTED, ""),
    ("exchanges_incarnation", "exchanges", "incarnation seq", ""),
    ("exchanges_pair", "exchanges", "pair", "pair IS NOT NULL"),
    ("exchanges_plan", "exchanges", "plan position", "plan IS NOT NULL"),
    ("exchanges_received", "exchanges", "received bytes", ""),
    ("exchanges_upstream_id", "exchanges", "upstream_id", "upstream_id IS NOT NULL"),
    ("exchanges_user", "exchanges", "user_digest", "user_digest IS NOT NULL"),
    ("feedback_exchange", "feedback", "exchange_id", ""),
    ("feedback_resolved", "feedback", "resolved", ""),
    ("feedback_unmet", "feedback", "at", "resolved IS NULL"),
    ("increments_cluster", "increments", "plan cluster", ""),
    ("keys_name", "keys", "name", "deleted IS NULL"),
    ("keys_team", "keys", "team", ""),
    ("keys_version", "keys", "version", ""),
    ("labels_subject", "labels", "scorer subject_id", ""),
    ("organizations_version", "organizations", "version", ""),
    ("pair_scores_pair", "pair_scores", "pair", ""),
    ("pairs_plan", "pairs", "plan state position", ""),
    ("predictions_newest", "predictions", "scorer received", ""),
    ("predictor_models_newest", "predictor_models", "target created", ""),
    ("ramp_events_experiment", "ramp_events", "experiment version", ""),
    ("replay_answers_id", "replay_answers", "answer_id", ""),
    ("score_units_at", "score_units", "at", ""),
    ("scores_worst", "scores", "scorer value01 exchange_id", "value01 < 1 AND repeat = 0"),
    ("teams_organization", "teams", "organization", ""),
    ("teams_version", "teams", "version", ""),
    ("turns_answer", "turns", "answer", ""),
    ("turns_parent", "turns", "parent", ""),
    ("turns_received", "turns", "received", ""),
    ("turns_reply_to", "turns", "reply_to", ""),
    ("webhook_deliveries_due", "webhook_deliveries", "state due", ""),
)

ANSWERS = """
CREATE VIEW answers AS
SELECT id, COALESCE(pair, id) AS served_id, received, alias, upstream, model, variant,
    upstream || '/' || model || COALESCE('[' || variant || ']', '') AS target, caller, api, role, experiment, plan,
    COALESCE(arm, 'none') AS arm, cluster, outcome, status, finish_reason, text, reasoning, tool_calls, reference,
    input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd, first_token_s, total_s, stratum, pi,
    1.0 / pi AS weight
FROM exchanges WHERE likelihood IS NULL
"""

_BOTH = """
    a.id AS pair, b.experiment, b.plan, b.arm, b.role, a.received, a.cluster, p.place, p.state,
    a.id AS control_id, b.id AS arm_id, a.text AS control_text, b.text AS arm_text, a.reference,
    a.outcome AS control_outcome, b.outcome AS arm_outcome, a.total_s AS control_total_s, b.total_s AS arm_total_s,
    a.cost_usd AS control_cost_usd, b.cost_usd AS arm_cost_usd, a.output_tokens AS control_output_tokens,
    b.output_tokens AS arm_output_tokens, b.pi
"""
_FROM = """
FROM exchanges b JOIN exchanges a ON a.id = b.pair LEFT JOIN pairs p ON p.id = a.id
"""

PAIRS = f"""
CREATE VIEW pairs_wide AS
SELECT {_BOTH}, sb.scorer, sb.version, sb.config_hash, sa.status AS control_status, sb.status AS arm_status,
    sa.value AS control_value, sb.value AS arm_value, CAST(NULL AS DOUBLE PRECISION) AS preference, 'answer' AS compares
{_FROM} LEFT JOIN scores sb ON sb.exchange_id = b.id
    LEFT JOIN scores sa ON sa.exchange_id = a.id AND sa.scorer = sb.scorer AND sa.version = sb.version
        AND sa.config_hash = sb.config_hash
WHERE b.likelihood IS NULL
UNION ALL
SELECT {_BOTH}, s.scorer, s.version, s.config_hash, NULL, s.status, NULL, NULL, s.value, 'pair'
{_FROM} JOIN pair_scores s ON s.exchange_id = b.id AND s.pair = a.id
WHERE b.likelihood IS NULL
"""

_APPEND_ONLY = {"audit": "audit_is_append_only", "ramp_events": "ramp_events_are_append_only"}
"""Table → the function of PostgreSQL that refuses to change its rows."""


def upgrade() -> None:
    for table, columns in _TABLES.items():
        op.create_table(table, *_columns(table, columns), sqlite_with_rowid=table not in _IN_ORDER_OF_THE_KEY)
    for name, table, names, condition in _INDEXES:
        where = sa.text(condition) if condition else None
        op.create_index(name, table, names.split(), unique=name in _UNIQUE, sqlite_where=where, postgresql_where=where)
    op.execute(ANSWERS)
    op.execute(PAIRS)
    for table, function in _APPEND_ONLY.items():
        _refuse_changes(table, function)


def _columns(table: str, columns: str) -> Iterator[sa.schema.SchemaItem]:
    found = _COLUMN.findall(columns)
    for name, _, kind, optional, default in found:
        given = None if not default else sa.false() if kind == "boolean" else default[1:]
        yield sa.Column(name, _TYPES[kind], nullable=bool(optional), server_default=given, autoincrement=False)
    key = [name for name, of_key, *_ in found if of_key]
    yield sa.PrimaryKeyConstraint(*_KEYS.get(table, key))


def _refuse_changes(table: str, function: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {function}()"
    )
