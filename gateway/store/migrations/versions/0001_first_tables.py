"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _counters()
    _dead_letters()
    _exchanges()
    _feedback()
    _ledgers()
    _marks()
    _score_buckets()
    _score_cells()
    _scores()
    _tallies()


def _exchanges() -> None:
    op.create_table(
        "exchanges",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("pair", sa.Text),
        sa.Column("received", sa.Double, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("api", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("upstream", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("experiment", sa.Text),
        sa.Column("plan", sa.Text),
        sa.Column("arm", sa.Text),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("form", sa.Text, nullable=False),
        sa.Column("truncated", sa.Boolean, nullable=False),
        sa.Column("spliced", sa.Boolean, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("finish_reason", sa.Text),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cached_input_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("first_token_s", sa.Double),
        sa.Column("total_s", sa.Double, nullable=False),
        sa.Column("cost_usd", sa.Double),
        sa.Column("upstream_id", sa.Text),
        sa.Column("client_id", sa.Text),
        sa.Column("attempts", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("u", sa.Double, nullable=False),
        sa.Column("pi", sa.Double, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("incarnation", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("reasoning", sa.Text, nullable=False),
        sa.Column("refusal", sa.Text, nullable=False),
        sa.Column("tool_calls", sa.Text, nullable=False),
        sa.Column("choices", sa.Integer, nullable=False),
        sa.Column("mean_logprob", sa.Double),
        sa.Column("stored", sa.Double, nullable=False),
    )
    where = sa.text("experiment IS NOT NULL")
    op.create_index(
        "exchanges_experiment", "exchanges", ["experiment", "plan"], sqlite_where=where, postgresql_where=where
    )
    op.create_index("exchanges_incarnation", "exchanges", ["incarnation", "seq"])
    where = sa.text("pair IS NOT NULL")
    op.create_index("exchanges_pair", "exchanges", ["pair"], sqlite_where=where, postgresql_where=where)
    op.create_index("exchanges_received", "exchanges", ["received"])


def _scores() -> None:
    op.create_table(
        "scores",
        sa.Column("score_id", sa.Text, primary_key=True),
        sa.Column("exchange_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("experiment", sa.Text),
        sa.Column("plan", sa.Text),
        sa.Column("arm", sa.Text),
        sa.Column("scorer", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("data_type", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("label", sa.Text),
        sa.Column("value01", sa.Double),
        sa.Column("explanation", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("standard_error", sa.Double),
        sa.Column("pi", sa.Double, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("cost_usd", sa.Double),
        sa.Column("judge_model", sa.Text),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("answered", sa.Double, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_index("scores_exchange", "scores", ["exchange_id"])


def _score_cells() -> None:
    op.create_table(
        "score_cells",
        sa.Column("scorer", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("n_scored", sa.BigInteger, nullable=False),
        sa.Column("n_not_applicable", sa.BigInteger, nullable=False),
        sa.Column("n_error", sa.BigInteger, nullable=False),
        sa.Column("n_timeout", sa.BigInteger, nullable=False),
        sa.Column("n_budget", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("squares", sa.Double, nullable=False),
        sa.Column("inverse_pi", sa.Double, nullable=False),
        sa.Column("population", sa.BigInteger, nullable=False),
        sa.Column("spent_scored", sa.BigInteger, nullable=False),
        sa.Column("spent_not_applicable", sa.BigInteger, nullable=False),
        sa.Column("spent_samples", sa.BigInteger, nullable=False),
        sa.Column("spent_total", sa.Double, nullable=False),
        sa.Column("spent_population", sa.BigInteger, nullable=False),
        sa.Column("weighted_sum", sa.Double, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("scorer", "version", "config_hash", "alias", "model", "arm", "stratum"),
    )


def _score_buckets() -> None:
    op.create_table(
        "score_buckets",
        sa.Column("scorer", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("bucket", sa.Integer, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("scorer", "version", "config_hash", "alias", "model", "arm", "stratum", "bucket"),
    )


def _tallies() -> None:
    op.create_table(
        "tallies",
        sa.Column("incarnation", sa.Text, nullable=False),
        sa.Column("ledger", sa.Text, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("incarnation", "ledger", "stratum", "alias", "target", "arm", "reason"),
    )


def _marks() -> None:
    op.create_table(
        "marks",
        sa.Column("incarnation", sa.Text, nullable=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("enqueued", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("incarnation", "position"),
    )


def _ledgers() -> None:
    op.create_table(
        "ledgers",
        sa.Column("incarnation", sa.Text, primary_key=True),
        sa.Column("closed_seq", sa.BigInteger, nullable=False),
        sa.Column("enqueued", sa.BigInteger, nullable=False),
        sa.Column("settled", sa.BigInteger, nullable=False),
    )


def _feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("feedback_id", sa.Text, primary_key=True),
        sa.Column("exchange_id", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("label", sa.Text),
        sa.Column("comment", sa.Text),
        sa.Column("correction", sa.Text),
    )
    op.create_index("feedback_exchange", "feedback", ["exchange_id"])


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("entry", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("incarnation", sa.Text),
        sa.Column("seq", sa.BigInteger),
    )


def _counters() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
    )
