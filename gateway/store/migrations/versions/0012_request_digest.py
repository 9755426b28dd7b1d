"""The digest of the request that each arm of a pair was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("request_digest", sa.Text))
