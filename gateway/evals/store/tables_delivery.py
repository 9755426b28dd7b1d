"""The store's tables of what was lost on the way: gaps, and what befell the stream that explains them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint, Table, Text

from gateway.evals.store.tables import metadata

gaps = Table(
    # Sequence numbers of a process, in (low_seq, high_seq], of which some never came. They lay between two of its
    # tallies, at from_position and to_position. reason: stream_lost or trimmed; "": unaccounted for.
    "gaps",
    metadata,
    Column("incarnation", Text, nullable=False),
    Column("low_seq", BigInteger, nullable=False),
    Column("high_seq", BigInteger, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("from_position", Text, nullable=False),
    Column("to_position", Text, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("incarnation", "high_seq"),
)

incidents = Table(
    # What befell a shard of the stream, and between which positions. reason: stream_lost (its server was restarted or
    # replaced) or trimmed (entries went before they were read).
    "incidents",
    metadata,
    Column("shard", Integer, nullable=False),
    Column("from_position", Text, nullable=False),
    Column("to_position", Text, nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("shard", "to_position", "reason"),
)

stream_nodes = Table(
    # The node that held a shard when it was last looked at. confirmed: its time then, as a position.
    "stream_nodes",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("run_id", Text, nullable=False),
    Column("confirmed", Text, nullable=False),
    Column("trimmed_to", Text, nullable=False),
)
