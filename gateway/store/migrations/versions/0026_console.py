"""Sessions of the console, and the indexes that its lists need."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"

FOUND = [
    "received", "id", "alias", "upstream", "model", "variant", "role", "outcome", "status", "caller", "total_s",
    "cost_usd", "pi",
]  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("content", sa.Boolean, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
    )
    op.create_table(
        "console_links",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("expires", sa.Double, nullable=False),
    )
    op.create_index("exchanges_found", "exchanges", FOUND)
    poor = sa.text("value01 < 1 AND repeat = 0")
    op.create_index(
        "scores_worst", "scores", ["scorer", "value01", "exchange_id"], sqlite_where=poor, postgresql_where=poor
    )
