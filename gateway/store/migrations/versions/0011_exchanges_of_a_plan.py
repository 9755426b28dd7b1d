"""The exchanges of a plan in the order of the stream: those without a pair reduce the variance of those with one."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    some = sa.text("plan IS NOT NULL")
    op.create_index("exchanges_plan", "exchanges", ["plan", "position"], sqlite_where=some, postgresql_where=some)
