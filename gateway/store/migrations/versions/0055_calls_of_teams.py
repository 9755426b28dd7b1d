"""An index by which the newest calls of several teams are found."""

import sqlalchemy as sa
from alembic import op

revision = "0055"
down_revision = "0054"


def upgrade() -> None:
    has_team = sa.text("team IS NOT NULL")
    names = ["received", "id", "team"]
    op.create_index("exchanges_of_teams", "exchanges", names, sqlite_where=has_team, postgresql_where=has_team)
