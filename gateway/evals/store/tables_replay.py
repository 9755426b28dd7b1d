"""The tables of replays, beside those of live traffic. Scores of a replay are rows of `scores`, subject "dataset item",
whose exchange_id is an answer's answer_id.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from gateway.evals.store.tables import metadata

replays = Table(
    # What is asked of whom, frozen. config_hash: of everything that decides an answer.
    "replays",
    metadata,
    Column("name", Text, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("dataset_hash", Text, nullable=False),
    Column("config_hash", Text, nullable=False),
    Column("design", Text, nullable=False),  # JSON
    Column("created", Double, nullable=False),
)

replay_answers = Table(
    # One answer, or the last failure, of one target to one item. item, repeat: from 1.
    "replay_answers",
    metadata,
    Column("replay", Text, nullable=False),
    Column("item", BigInteger, nullable=False),
    Column("target", Text, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("answer_id", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # ok, refused, failed, timeout
    Column("status", Integer),  # HTTP; NULL: no answer came
    Column("error", Text),
    Column("upstream", Text),  # who answered
    Column("model", Text),
    Column("finish_reason", Text),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_input_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost_usd", Double),
    Column("seconds", Double, nullable=False),
    Column("asked", Double, nullable=False),
    Column("exchange_id", Text),  # the gateway's own id of the call
    Column("text", Text, nullable=False),
    Column("response", LargeBinary, nullable=False),
    PrimaryKeyConstraint("replay", "item", "target", "repeat"),
    Index("replay_answers_id", "answer_id", unique=True),
)
