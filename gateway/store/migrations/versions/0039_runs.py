"""Runs: the calls of one task, by the id that their client gave them."""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    for name in ("run", "run_source", "run_id"):
        op.add_column("exchanges", sa.Column(name, sa.Text))
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("scored_to", sa.Double, nullable=False, server_default="0"),
        sa.Column("scored_on", sa.Text),
    )
    op.create_index("runs_key", "runs", ["key", "part"])
    op.create_index("runs_last", "runs", ["last_at"])
    _partial("runs_due", "runs", ["last_at"], "scored_to < last_at")
    _partial("scores_of_runs", "scores", ["scorer", "value01", "exchange_id"], "subject = 'run'")
    _partial("exchanges_run", "exchanges", ["run"], "run IS NOT NULL")
    listed = "run_id received id caller alias run run_source arm outcome status tokens cost_usd total_s"
    _partial("exchanges_of_run", "exchanges", listed.split(), "run_id IS NOT NULL")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
