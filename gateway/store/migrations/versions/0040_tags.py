"""Tags that calls gave themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("tags", sa.Text))
