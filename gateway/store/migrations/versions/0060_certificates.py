"""Maps of scorers' probabilities, and certificates of thresholds."""

import sqlalchemy as sa
from alembic import op

revision = "0060"
down_revision = "0059"


def upgrade() -> None:
    op.create_table(
        "calibration_maps",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("scorer", "version", "config_hash")),
        sa.Column("labels", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("intercept", "slope", "level", "gain")),
        sa.Column("accepted", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("horizon", "at")),
        sa.PrimaryKeyConstraint("scorer", "version", "config_hash", "labels"),
    )
    op.create_table(
        "decision_certificates",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("began", sa.Double, nullable=False),
        sa.Column("attempt", sa.Text, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("given", "lapsed")),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("name", "began"),
    )
