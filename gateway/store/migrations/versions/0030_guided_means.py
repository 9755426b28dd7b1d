"""What answers weigh that a guided scorer was drawn for with a probability of its own; the state of drift alarms."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    for name in ("scored", "answered", "total"):
        for column in (f"more_{name}", f"spent_more_{name}"):
            op.add_column("score_cells", sa.Column(column, sa.Double, nullable=False, server_default="0"))
    for column in ("more", "spent_more"):
        op.add_column("score_buckets", sa.Column(column, sa.Double, nullable=False, server_default="0"))
    op.create_table(
        "drift_states",
        sa.Column("scorer", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("scorer", "alias"),
    )
