"""The digest of the end user of an exchange, by which `gateway erase` finds it."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("user_digest", sa.Text))
    there = sa.text("user_digest IS NOT NULL")
    op.create_index("exchanges_user", "exchanges", ["user_digest"], sqlite_where=there, postgresql_where=there)
