"""What watches of models have learned, and the sums that they learn from."""

import sqlalchemy as sa
from alembic import op

revision = "0063"
down_revision = "0062"


def upgrade() -> None:
    op.create_table(
        "model_watches",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("alias", "upstream", "model")),
        sa.Column("hour", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("alias", "upstream", "model"),
    )
    op.create_table(
        "watch_hours",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("alias", "upstream", "model")),
        sa.Column("hour", sa.BigInteger, nullable=False),
        sa.Column("names", sa.Text, nullable=False),
        sa.Column("sums", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("alias", "upstream", "model", "hour"),
    )
