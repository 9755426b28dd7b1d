"""The model that an answer names, and the fingerprint of its server."""

import sqlalchemy as sa
from alembic import op

revision = "0059"
down_revision = "0058"


def upgrade() -> None:
    for name in ("fingerprint", "model_returned"):
        op.add_column("exchanges", sa.Column(name, sa.Text))
