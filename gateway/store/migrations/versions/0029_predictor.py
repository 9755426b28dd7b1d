"""Learned models, their prediction for each exchange, and the sums of both with the judge's values."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

CELL = ("scorer", "version", "config_hash", "alias", "model", "arm", "stratum")
SUMS = (
    "s_failed", "s_b", "s_d", "s_e1", "s_e2", "s_bb", "s_bd", "s_be1", "s_be2", "s_dd", "s_de1", "s_de2", "s_e1e1",
    "s_e1e2", "s_e2e2",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "predictor_models",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("trained_from", sa.Double, nullable=False),
        sa.Column("trained_to", sa.Double, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("card", sa.Text, nullable=False),
        sa.Column("features", sa.Text, nullable=False),
    )
    op.create_index("predictor_models_newest", "predictor_models", ["target", "created"])
    op.create_table(
        "predictions",
        sa.Column("exchange_id", sa.Text, nullable=False),
        sa.Column("scorer", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("predicted", sa.Double),
        sa.Column("residual", sa.Double),
        sa.Column("pi", sa.Double, nullable=False),
        sa.Column("judged", sa.Boolean, nullable=False),
        sa.Column("received", sa.Double, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("feature_set", sa.Text, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("exchange_id", "scorer"),
        sqlite_with_rowid=False,
    )
    op.create_index("predictions_newest", "predictions", ["scorer", "received"])
    op.create_table(
        "prediction_sums",
        *(sa.Column(name, sa.Text, nullable=False) for name in CELL),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in SUMS),
        sa.PrimaryKeyConstraint(*CELL),
    )
