"""Squared weights of closed sums, so that the mean of a time window has an interval.

Sums that are not closed yet get their share of the sums over units.
"""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    for name in ("sizes", "products", "squares"):
        for kind in ("open", "closed"):
            op.add_column("score_cells", sa.Column(f"{kind}_{name}", sa.Double, nullable=False, server_default="0"))
    op.execute(
        "UPDATE score_cells SET open_sizes = unit_sizes * (n_scored - spent_scored) / n_scored, "
        "open_products = unit_products * (n_scored - spent_scored) / n_scored, "
        "open_squares = unit_squares * (n_scored - spent_scored) / n_scored WHERE n_scored > spent_scored"
    )
