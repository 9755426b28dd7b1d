"""The probabilities behind answers that were asked for as decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0064"
down_revision = "0063"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("decision", sa.Text))
