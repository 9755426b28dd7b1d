"""What the target of an exchange changed in its request."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("variant", sa.Text))
