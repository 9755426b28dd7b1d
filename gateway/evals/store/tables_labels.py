"""The tables of people's labels, and of what judges have cost."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Table, Text

from gateway.evals.store.tables import metadata

labels = Table(
    # One person's verdict on what one scorer judged: an exchange, or a pair, by the id of its second exchange. How the
    # item came to be drawn stands in pool … horizon; evals/annotation/sampling.py says what they mean.
    "labels",
    metadata,
    Column("label_id", Text, primary_key=True),
    Column("scorer", Text, nullable=False),
    Column("subject", Text, nullable=False),  # exchange or pair
    Column("subject_id", Text, nullable=False),
    Column("labeller", Text, nullable=False),
    Column("status", Text, nullable=False),  # scored or skipped
    Column("value", Double),  # in [0, 1], 1 best; of a pair: the preference for its second answer
    Column("label", Text),
    Column("comment", Text),
    Column("version", Text, nullable=False),  # of the scorer whose answers were drawn from
    Column("config_hash", Text, nullable=False),
    Column("pool", Text, nullable=False),  # an experiment; "" for everything
    Column("favour", Double, nullable=False),
    Column("threshold", Double),
    Column("share", Double),
    Column("horizon", Double, nullable=False),
    Column("at", Double, nullable=False),
    Index("labels_subject", "scorer", "subject_id"),
)

score_costs = Table(
    # Sums over the scores that cost something; they stay when the scores themselves go.
    "score_costs",
    metadata,
    Column("scorer", Text, primary_key=True),
    Column("usd", Double, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)
