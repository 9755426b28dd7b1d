"""The store's tables, as the newest migration leaves them. Names here are names that users query: they stay.

Times are Unix seconds, durations seconds. JSON stands in text columns, so that SQLite and PostgreSQL hold the same.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

metadata = MetaData()

exchanges = Table(
    "exchanges",
    metadata,
    Column("id", Text, primary_key=True),
    Column("pair", Text),
    Column("received", Double, nullable=False),
    Column("caller", Text, nullable=False),
    Column("api", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("experiment", Text),
    Column("plan", Text),
    Column("arm", Text),
    Column("stream", Boolean, nullable=False),
    Column("form", Text, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("spliced", Boolean, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    Column("finish_reason", Text),
    Column("tokens", BigInteger),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_input_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("first_token_s", Double),
    Column("total_s", Double, nullable=False),
    Column("cost_usd", Double),
    Column("upstream_id", Text),
    Column("client_id", Text),
    Column("attempts", Text, nullable=False),  # JSON
    Column("unit", Text, nullable=False),
    Column("u", Double, nullable=False),
    Column("pi", Double, nullable=False),
    Column("stratum", Text, nullable=False),
    Column("incarnation", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("text", Text, nullable=False),
    Column("reasoning", Text, nullable=False),
    Column("refusal", Text, nullable=False),
    Column("tool_calls", Text, nullable=False),  # JSON
    Column("choices", Integer, nullable=False),
    Column("mean_logprob", Double),
    Column("stored", Double, nullable=False),
    Column("position", Text),  # its place in the stream, as ledger.position writes it; NULL: stored by an older version
    Column("cluster", Text),  # whose exchanges depend on each other: a conversation, a unit of a split
    Column("bytes", BigInteger, nullable=False, server_default="0"),  # what it takes, about; 0: its words are gone
    Index("exchanges_received", "received", "bytes"),
    Index("exchanges_incarnation", "incarnation", "seq"),
    Index(
        "exchanges_upstream_id",
        "upstream_id",
        sqlite_where=text("upstream_id IS NOT NULL"),
        postgresql_where=text("upstream_id IS NOT NULL"),
    ),
    Index("exchanges_pair", "pair", sqlite_where=text("pair IS NOT NULL"), postgresql_where=text("pair IS NOT NULL")),
    Index(
        "exchanges_experiment",
        "experiment",
        "plan",
        sqlite_where=text("experiment IS NOT NULL"),
        postgresql_where=text("experiment IS NOT NULL"),
    ),
)

SCORE = ("exchange_id", "score_id")

scores = Table(
    # Rows lie in the order of their key, all of an exchange together: no index beside.
    "scores",
    metadata,
    Column("score_id", Text, nullable=False),
    Column("exchange_id", Text, nullable=False),
    Column("subject", Text, nullable=False),  # exchange; later also pair, conversation, dataset item
    Column("experiment", Text),
    Column("plan", Text),
    Column("arm", Text),
    Column("scorer", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("config_hash", Text, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("data_type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("value", Double),
    Column("label", Text),
    Column("value01", Double),  # value on its bounds, 1 best; NULL: no bounds
    Column("explanation", Text),
    Column("detail", Text),  # JSON
    Column("standard_error", Double),
    Column("pi", Double, nullable=False),
    Column("stratum", Text, nullable=False),
    Column("cost_usd", Double),
    Column("judge_model", Text),
    Column("tokens", BigInteger),
    Column("seconds", Double, nullable=False),
    Column("answered", Double, nullable=False),
    Column("created", Double, nullable=False),
    Column("distribution", Text),  # JSON: verdict → probability; NULL: the judge gave none
    PrimaryKeyConstraint(*SCORE),
    sqlite_with_rowid=False,
)

CELL = ("scorer", "version", "config_hash", "alias", "model", "arm", "stratum")

score_cells = Table(
    # Sums over `scores` and N_h from the Tallies. spent_*: what the closed weights already hold.
    "score_cells",
    metadata,
    *(Column(name, Text, nullable=False) for name in CELL),
    Column("n_scored", BigInteger, nullable=False),
    Column("n_not_applicable", BigInteger, nullable=False),
    Column("n_error", BigInteger, nullable=False),
    Column("n_timeout", BigInteger, nullable=False),
    Column("n_budget", BigInteger, nullable=False),
    Column("total", Double, nullable=False),
    Column("squares", Double, nullable=False),
    Column("inverse_pi", Double, nullable=False),
    Column("population", BigInteger, nullable=False),
    Column("spent_scored", BigInteger, nullable=False),
    Column("spent_not_applicable", BigInteger, nullable=False),
    Column("spent_samples", BigInteger, nullable=False),
    Column("spent_total", Double, nullable=False),
    Column("spent_population", BigInteger, nullable=False),
    Column("weighted_sum", Double, nullable=False),
    Column("weight", Double, nullable=False),
    # Over units, each of n scores that add up to t: n², n t and t². Where every exchange is its own: n_scored, total
    # and squares.
    Column("unit_sizes", Double, nullable=False, server_default="0"),
    Column("unit_products", Double, nullable=False, server_default="0"),
    Column("unit_squares", Double, nullable=False, server_default="0"),
    PrimaryKeyConstraint(*CELL),
)

score_units = Table(
    # Conversations that are units of sampling: how many scores each has in a cell, and their sum. at: of its newest.
    "score_units",
    metadata,
    *(Column(name, Text, nullable=False) for name in CELL),
    Column("unit", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("total", Double, nullable=False),
    Column("at", Double, nullable=False),
    PrimaryKeyConstraint(*CELL, "unit"),
    Index("score_units_at", "at"),
)

score_buckets = Table(
    # The histogram beside score_cells. bucket: place in buckets.py's bounds; the last is +Inf.
    "score_buckets",
    metadata,
    *(Column(name, Text, nullable=False) for name in CELL),
    Column("bucket", Integer, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("weight", Double, nullable=False),
    PrimaryKeyConstraint(*CELL, "bucket"),
)

TALLY = ("incarnation", "ledger", "stratum", "alias", "target", "arm", "reason")

tallies = Table(
    # The newest cumulative counts of each gateway process. ledger: seen, unsampled, sampled, enqueued or dropped.
    "tallies",
    metadata,
    *(Column(name, Text, nullable=False) for name in TALLY),
    Column("n", BigInteger, nullable=False),
    PrimaryKeyConstraint(*TALLY),
)

marks = Table(
    # Places in the stream before which a process says it has enqueued so many. position: a padded stream id.
    "marks",
    metadata,
    Column("incarnation", Text, nullable=False),
    Column("position", Text, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("enqueued", BigInteger, nullable=False),
    Column("shard", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("incarnation", "position"),
)

ledgers = Table(
    # Each process up to the newest mark that everything before has been read: what it enqueued, what arrived.
    "ledgers",
    metadata,
    Column("incarnation", Text, primary_key=True),
    Column("closed_seq", BigInteger, nullable=False),
    Column("enqueued", BigInteger, nullable=False),
    Column("settled", BigInteger, nullable=False),  # stored or buried
    Column("shard", Integer, nullable=False, server_default="0"),  # of the stream that it appends to
    Column("taken", BigInteger, nullable=False, server_default="0"),  # sampled and not dropped, at its newest tally
    Column("gateway_lost", BigInteger, nullable=False, server_default="0"),  # taken and never appended: it is dead
    Column("closed_position", Text, nullable=False, server_default=""),
    Column("tally_position", Text, nullable=False, server_default=""),  # of its newest tally
    Column("state", Text, nullable=False, server_default=""),  # "": it lives; stopped: in order; dead: it fell silent
)

feedback = Table(
    "feedback",
    metadata,
    Column("feedback_id", Text, primary_key=True),
    Column("exchange_id", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Double),
    Column("label", Text),
    Column("comment", Text),
    Column("correction", Text),
    Column("data_type", Text, nullable=False, server_default="numeric"),  # boolean, numeric, categorical
    Column("resolved", Text),  # the exchange it is of; NULL: none of this caller's with that id is here
    Index("feedback_exchange", "exchange_id"),
    Index("feedback_resolved", "resolved"),
    Index("feedback_unmet", "at", sqlite_where=text("resolved IS NULL"), postgresql_where=text("resolved IS NULL")),
)

dead_letters = Table(
    # What was moved to the dead-letter stream. incarnation, seq: NULL where they could not be read.
    "dead_letters",
    metadata,
    Column("entry", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("incarnation", Text),
    Column("seq", BigInteger),
)

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
)
