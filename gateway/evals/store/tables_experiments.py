"""The tables of experiments: what was planned, which pairs there are and in which order, and the sequences over them.

One leased consumer moves a plan forward; all it knows stands here, so that another goes on where it was killed.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, PrimaryKeyConstraint, Table, Text

from gateway.evals.store.tables import metadata

plans = Table(
    # Every plan that ran, as it was frozen.
    "plans",
    metadata,
    Column("plan", Text, primary_key=True),  # its hash
    Column("experiment", Text, nullable=False),
    Column("json", Text, nullable=False),
    Column("state", Text, nullable=False),  # running, stopped
    Column("since", Double, nullable=False),
    Column("first_seen", Double, nullable=False),
)

pairs = Table(
    # A served exchange that was drawn for a shadow. place: its index in the plan's sequences; NULL: not settled yet.
    "pairs",
    metadata,
    Column("id", Text, primary_key=True),  # of the served exchange
    Column("experiment", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("position", Text, nullable=False),  # of the served exchange in the stream
    Column("received", Double, nullable=False),
    Column("cluster", Text),
    Column("asked", Text, nullable=False),  # JSON: names of arms
    Column("state", Text, nullable=False),  # open, joined, lost, not_asked
    Column("reason", Text),  # of not_asked
    Column("place", BigInteger),
    Column("arms", Text),  # JSON: arm → {"exchange": id or null, "state": ok, failed or lost}; NULL while open
    Index("pairs_plan", "plan", "state", "position"),
)

pair_scores = Table(
    # What pair scorers said of the served answer beside an arm's.
    "pair_scores",
    metadata,
    Column("score_id", Text, primary_key=True),
    Column("pair", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("exchange_id", Text, nullable=False),  # of the arm
    Column("experiment", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("scorer", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("config_hash", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("value", Double),
    Column("label", Text),
    Column("explanation", Text),
    Column("detail", Text),  # JSON
    Column("standard_error", Double),
    Column("cost_usd", Double),
    Column("judge_model", Text),
    Column("tokens", BigInteger),
    Column("seconds", Double, nullable=False),
    Column("created", Double, nullable=False),
    Index("pair_scores_pair", "pair"),
)

SEQUENCE = ("plan", "candidate", "metric", "identity")

sequences = Table(
    # candidate: the arm against the control; "repeat": the control against itself. identity: of the scorer, since its
    # versions do not mix. state: JSON.
    "sequences",
    metadata,
    *(Column(name, Text, nullable=False) for name in SEQUENCE),
    Column("n", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("updated", Double, nullable=False),
    PrimaryKeyConstraint(*SEQUENCE),
)

increments = Table(
    # What each pair added to each sequence. a, b: in the metric's units; difference: turned so that more is better.
    "increments",
    metadata,
    *(Column(name, Text, nullable=False) for name in SEQUENCE),
    Column("pair", Text, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("cluster", Text),
    Column("a", Double, nullable=False),
    Column("b", Double, nullable=False),
    Column("difference", Double, nullable=False),
    PrimaryKeyConstraint(*SEQUENCE, "pair"),
    Index("increments_cluster", "plan", "cluster"),
)

withheld = Table(
    # Pairs that a sequence did not take, by reason and by the arm that is the reason ("" for none).
    "withheld",
    metadata,
    *(Column(name, Text, nullable=False) for name in SEQUENCE),
    Column("reason", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
    PrimaryKeyConstraint(*SEQUENCE, "reason", "arm"),
)

trails = Table(
    # Interval after n pairs, at n that grow geometrically.
    "trails",
    metadata,
    *(Column(name, Text, nullable=False) for name in SEQUENCE),
    Column("n", BigInteger, nullable=False),
    Column("value", Double, nullable=False),
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    PrimaryKeyConstraint(*SEQUENCE, "n"),
)

leases = Table(
    # Who may do what only one process may do, and until when.
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires", Double, nullable=False),
)
