"""The digest of a call's prompt, by which a comparison counts pairs of one prompt as one unit."""

import sqlalchemy as sa
from alembic import op

revision = "0058"
down_revision = "0057"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("prompt_digest", sa.Text))
