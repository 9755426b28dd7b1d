"""What an engine says about the likelihood of a served answer."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("likelihood", sa.Text))
