"""Delivery: what was lost on the way, and where."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("marks", sa.Column("shard", sa.Integer, nullable=False, server_default="0"))
    for name in ("shard", "taken", "gateway_lost"):
        kind = sa.Integer if name == "shard" else sa.BigInteger
        op.add_column("ledgers", sa.Column(name, kind, nullable=False, server_default="0"))
    for name in ("closed_position", "tally_position", "state"):
        op.add_column("ledgers", sa.Column(name, sa.Text, nullable=False, server_default=""))
    _gaps()
    _incidents()
    op.create_table(
        "stream_nodes",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("confirmed", sa.Text, nullable=False),
        sa.Column("trimmed_to", sa.Text, nullable=False),
    )


def _gaps() -> None:
    op.create_table(
        "gaps",
        sa.Column("incarnation", sa.Text, nullable=False),
        sa.Column("low_seq", sa.BigInteger, nullable=False),
        sa.Column("high_seq", sa.BigInteger, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("from_position", sa.Text, nullable=False),
        sa.Column("to_position", sa.Text, nullable=False),
        sa.Column("missing", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("incarnation", "high_seq"),
    )
    # What was unaccounted for before gaps were kept stays so.
    op.execute(
        "INSERT INTO gaps SELECT incarnation, 0, closed_seq, 0, '', '', enqueued - settled, '' "
        "FROM ledgers WHERE enqueued > settled"
    )


def _incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("from_position", sa.Text, nullable=False),
        sa.Column("to_position", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("shard", "to_position", "reason"),
    )
