"""Means by conversation: the sums over units that an interval needs, and the units under way."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_CELL = ("scorer", "version", "config_hash", "alias", "model", "arm", "stratum")


def upgrade() -> None:
    op.add_column("score_cells", sa.Column("unit_sizes", sa.Double, nullable=False, server_default="0"))
    op.add_column("score_cells", sa.Column("unit_products", sa.Double, nullable=False, server_default="0"))
    op.add_column("score_cells", sa.Column("unit_squares", sa.Double, nullable=False, server_default="0"))
    op.execute("UPDATE score_cells SET unit_sizes = n_scored, unit_products = total, unit_squares = squares")
    op.create_table(
        "score_units",
        *(sa.Column(name, sa.Text, nullable=False) for name in _CELL),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint(*_CELL, "unit"),
    )
    op.create_index("score_units_at", "score_units", ["at"])
