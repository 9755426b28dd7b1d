"""Experiments: plans, pairs and sequences."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SEQUENCE = ("plan", "candidate", "metric", "identity")


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("position", sa.Text))
    op.add_column("exchanges", sa.Column("cluster", sa.Text))
    _plans()
    _pairs()
    _pair_scores()
    _sequences()
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
    )


def _plans() -> None:
    op.create_table(
        "plans",
        sa.Column("plan", sa.Text, primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("first_seen", sa.Double, nullable=False),
    )


def _pairs() -> None:
    op.create_table(
        "pairs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("received", sa.Double, nullable=False),
        sa.Column("cluster", sa.Text),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("place", sa.BigInteger),
        sa.Column("arms", sa.Text),
    )
    op.create_index("pairs_plan", "pairs", ["plan", "state", "position"])


def _pair_scores() -> None:
    op.create_table(
        "pair_scores",
        sa.Column("score_id", sa.Text, primary_key=True),
        sa.Column("pair", sa.Text, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("exchange_id", sa.Text, nullable=False),
        sa.Column("experiment", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("scorer", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("label", sa.Text),
        sa.Column("explanation", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("standard_error", sa.Double),
        sa.Column("cost_usd", sa.Double),
        sa.Column("judge_model", sa.Text),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_index("pair_scores_pair", "pair_scores", ["pair"])


def _key() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in _SEQUENCE]


def _sequences() -> None:
    op.create_table(
        "sequences",
        *_key(),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint(*_SEQUENCE),
    )
    op.create_table(
        "increments",
        *_key(),
        sa.Column("pair", sa.Text, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("cluster", sa.Text),
        sa.Column("a", sa.Double, nullable=False),
        sa.Column("b", sa.Double, nullable=False),
        sa.Column("difference", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint(*_SEQUENCE, "pair"),
    )
    op.create_index("increments_cluster", "increments", ["plan", "cluster"])
    op.create_table(
        "withheld",
        *_key(),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(*_SEQUENCE, "reason", "arm"),
    )
    op.create_table(
        "trails",
        *_key(),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint(*_SEQUENCE, "n"),
    )
