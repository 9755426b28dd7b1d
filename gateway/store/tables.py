"""Every table of the store. Names of tables and columns are public: they are only ever added to."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

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
    false,
    func,
    literal_column,
    text,
)
from sqlalchemy.schema import SchemaItem

from gateway.core.exchange import STORED_FIELDS
from gateway.core.usage import UsageCell, UsageSums

metadata = MetaData()

_COLUMN_TYPES: dict[str, Any] = {
    **dict.fromkeys(("str", "Role", "Outcome", "Form"), Text),
    **{"int": BigInteger, "float": Double, "bool": Boolean, "bytes": LargeBinary},
}


def _mirrored(name: str, annotation: str) -> Column[Any]:
    """The column of a field of Exchange."""
    kind, _, optional = annotation.partition(" | ")
    column_type = Integer if name == "status" else _COLUMN_TYPES[kind]
    return Column(name, column_type, primary_key=name == "id", nullable=bool(optional))


def _required(kind: Any, *names: str, server_default: str | None = None) -> list[Column[Any]]:
    """Columns of one type that are never NULL."""
    return [Column(name, kind, nullable=False, server_default=server_default) for name in names]


def _optional(kind: Any, *names: str) -> list[Column[Any]]:
    """Columns of one type that may be NULL."""
    return [Column(name, kind) for name in names]


def _table(name: str, *items: SchemaItem, **options: Any) -> Table:
    return Table(name, metadata, *items, **options)


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over the rows that meet a condition."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


exchanges = _table(
    "exchanges",
    *(_mirrored(name, annotation) for name, annotation in STORED_FIELDS.items()),
    *_required(Text, "upstream", "model"),
    Column("variant", Text),  # what the target changed in the request, as in its name; NULL: nothing
    *_optional(Text, "error", "finish_reason"),
    *_optional(BigInteger, "tokens", "input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"),
    Column("cost_usd", Double),
    Column("upstream_id", Text),
    Column("attempts", Text, nullable=False),  # JSON
    *_required(Text, "text", "reasoning", "refusal"),
    Column("tool_calls", Text, nullable=False),  # JSON
    Column("choices", Integer, nullable=False),
    Column("mean_logprob", Double),
    Column("stored", Double, nullable=False),
    Column("position", Text),  # in the stream, as ledger.position writes it; NULL: stored by an older version
    *_required(BigInteger, "bytes", server_default="0"),  # approximate size; 0 if retention has removed its texts
    Column("empty", Boolean),  # HTTP 200 and nothing in the answer; NULL: unknown, or stored by an older version
    Column("run_id", Text),  # the row of `runs` that it is a call of; NULL: it names no run
    # Of a run's call: the chunks of its run that `request` follows, a JSON list, and the size of all together. NULL:
    # `request` is all. run_chunks.py has both as an expression.
    Column("request_chunks", Text),
    Column("request_bytes", BigInteger),
    Index("exchanges_received", "received", "bytes"),
    # Everything that the console filters and sums by, so that it need not read rows with their texts.
    Index(
        "exchanges_found",
        "received",
        "id",
        "alias",
        "upstream",
        "model",
        "variant",
        "role",
        "outcome",
        "status",
        "caller",
        "total_s",
        "cost_usd",
        "pi",
    ),
    Index("exchanges_incarnation", "incarnation", "seq"),
    _partial_index("exchanges_upstream_id", "upstream_id", where="upstream_id IS NOT NULL"),
    _partial_index("exchanges_user", "user_digest", where="user_digest IS NOT NULL"),
    _partial_index("exchanges_pair", "pair", where="pair IS NOT NULL"),
    _partial_index("exchanges_plan", "plan", "position", where="plan IS NOT NULL"),
    _partial_index("exchanges_experiment", "experiment", "plan", where="experiment IS NOT NULL"),
    _partial_index("exchanges_run", "run", where="run IS NOT NULL"),
    _partial_index("exchanges_team", "team", "received", "id", where="team IS NOT NULL"),
    _partial_index("exchanges_of_teams", "received", "id", "team", where="team IS NOT NULL"),
    # Everything that runs are listed with, so that the rows of their calls, with all texts, need not be read.
    _partial_index(
        "exchanges_of_run",
        *("run_id", "received", "id", "caller", "alias", "run", "run_source", "arm"),
        *("outcome", "status", "tokens", "cost_usd", "total_s"),
        where="run_id IS NOT NULL",
    ),
)

runs = _table(
    # Runs: calls that name the same run, at most 1 000 or 24 hours long. Nothing here is of the client but a digest.
    "runs",
    Column("run_id", Text, primary_key=True),  # its key, with .1, .2, … for the further runs of the same id
    Column("key", Text, nullable=False),  # of the caller and the id that it uses: exchange.run_key
    Column("part", Integer, nullable=False),
    *_required(Double, "first_at", "last_at"),  # Unix seconds: of the first call's arrival, of the last call's end
    Column("calls", BigInteger, nullable=False),
    Column("scored_to", Double, nullable=False, server_default="0"),  # last_at when it was scored; 0 if it never was
    Column("scored_on", Text),  # the exchange that has its scores; NULL: it was never scored
    Column("chunk_bytes", BigInteger, nullable=False, server_default="0"),  # of its rows in `run_chunks`
    Index("runs_key", "key", "part"),
    Index("runs_last", "last_at"),
    _partial_index("runs_due", "last_at", where="scored_to < last_at"),
)

run_chunks = _table(
    # What the requests of a run's calls consist of, each chunk once. It is deleted with the last call that has it.
    "run_chunks",
    Column("run_id", Text, nullable=False),
    Column("chunk", BigInteger, nullable=False),  # its number in the run
    *_required(LargeBinary, "digest", "body"),
    PrimaryKeyConstraint("run_id", "chunk"),
    Index("run_chunks_digest", "run_id", "digest", "chunk"),
)

_c = exchanges.c
_VARIANT = literal_column("'['", Text) + _c.variant + literal_column("']'", Text)
TARGET = _c.upstream + literal_column("'/'", Text) + _c.model + func.coalesce(_VARIANT, literal_column("''", Text))
"""The target's name, as in the Tallies: "upstream/model" or "upstream/model[variant]"."""

SCORE = ("exchange_id", "score_id")

scores = _table(
    # Rows are stored in the order of their key, all of an exchange together. The index finds the worst answers by a
    # scorer; perfect ones are not in it.
    "scores",
    *_required(Text, "score_id", "exchange_id"),
    Column("subject", Text, nullable=False),  # exchange, run (by the call that stands for it) or dataset item
    *_optional(Text, "experiment", "plan", "arm"),
    *_required(Text, "scorer", "version", "config_hash"),
    Column("repeat", Integer, nullable=False),
    *_required(Text, "kind", "direction", "data_type", "status"),
    Column("value", Double),
    Column("label", Text),
    Column("value01", Double),  # the value rescaled to [0, 1], 1 best; NULL: the scorer has no bounds
    Column("explanation", Text),
    Column("detail", Text),  # JSON
    Column("standard_error", Double),
    Column("pi", Double),  # NULL: of an import whose sampling is unknown
    Column("stratum", Text, nullable=False),
    Column("cost_usd", Double),
    Column("judge_model", Text),
    Column("tokens", BigInteger),
    *_required(Double, "seconds", "answered", "created"),
    Column("distribution", Text),  # JSON: verdict → probability; NULL: the judge gave none
    PrimaryKeyConstraint(*SCORE),
    _partial_index("scores_worst", "scorer", "value01", "exchange_id", where="value01 < 1 AND repeat = 0"),
    _partial_index("scores_of_runs", "scorer", "value01", "exchange_id", where="subject = 'run'"),
    sqlite_with_rowid=False,
)

CELL = ("scorer", "version", "config_hash", "alias", "model", "arm", "stratum")

score_cells = _table(
    # Sums over `scores`, and N_h from the tallies. spent_*: what the closed weights already contain.
    "score_cells",
    *_required(Text, *CELL),
    *_required(BigInteger, "n_scored", "n_not_applicable", "n_error", "n_timeout", "n_budget"),
    *_required(Double, "total", "squares", "inverse_pi"),
    *_required(BigInteger, "population", "spent_scored", "spent_not_applicable", "spent_samples"),
    Column("spent_total", Double, nullable=False),
    Column("spent_population", BigInteger, nullable=False),
    *_required(Double, "weighted_sum", "weight"),
    # Over units, each of n scores that add up to t: n², n t and t². Where every exchange is its own: n_scored, total
    # and squares.
    *_required(Double, "unit_sizes", "unit_products", "unit_squares", server_default="0"),
    # Of a guided scorer: sums of (1 / π − 1) over what it scored, what it answered, and times the score. An answer that
    # it was drawn for with π stands for 1 / π of those that it could have been drawn for.
    *_required(Double, "more_scored", "more_answered", "more_total", "spent_more_scored", server_default="0"),
    *_required(Double, "spent_more_answered", "spent_more_total", server_default="0"),
    # As unit_*, for the interval of a window: open_* since the last closing, closed_* times the squared weights. An
    # answer of a guided scorer counts 1 / π² times.
    *_required(Double, "open_sizes", "open_products", "open_squares", "closed_sizes", server_default="0"),
    *_required(Double, "closed_products", "closed_squares", server_default="0"),
    PrimaryKeyConstraint(*CELL),
)

score_units = _table(
    # Conversations as units of sampling: the number and the sum of their scores in a cell. at: of the newest call.
    "score_units",
    *_required(Text, *CELL),
    Column("unit", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
    *_required(Double, "total", "at"),
    PrimaryKeyConstraint(*CELL, "unit"),
    Index("score_units_at", "at"),
)

score_buckets = _table(
    # The histogram of each cell. bucket: index into the bounds in score_sums.py; the last is +Inf.
    "score_buckets",
    *_required(Text, *CELL),
    Column("bucket", Integer, nullable=False),
    *_required(BigInteger, "n", "spent"),
    Column("weight", Double, nullable=False),
    Column("more", Double, nullable=False, server_default="0"),  # as in score_cells
    Column("spent_more", Double, nullable=False, server_default="0"),
    PrimaryKeyConstraint(*CELL, "bucket"),
)

predictor_models = _table(
    # Every model that was trained, and its card. version: SHA-256 of the model. target: as in the section `predictor`.
    "predictor_models",
    Column("version", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("created", Double, nullable=False),  # Unix seconds, as are the next two
    Column("trained_from", Double, nullable=False),  # the arrival of the oldest exchange that it was trained on
    Column("trained_to", Double, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("model", Text, nullable=False),  # JSON
    Column("card", Text, nullable=False),  # JSON
    Column("features", Text, nullable=False),  # JSON: their names, in order
    Index("predictor_models_newest", "target", "created"),
)

predictions = _table(
    # What a model predicted for an exchange before the draw. scorer: whose sampling it guides, or "feedback:NAME".
    "predictions",
    *_required(Text, "exchange_id", "scorer"),
    Column("version", Text, nullable=False),  # of the model; "" if there was none
    Column("predicted", Double),  # in [0, 1], 1 best; NULL: there was no model
    Column("residual", Double),  # the expected squared error of predicted; NULL: there was no model
    Column("pi", Double, nullable=False),  # with which the scorer saw the exchange, given that it was recorded
    Column("judged", Boolean, nullable=False),  # the scorer was drawn, whatever came of it
    Column("received", Double, nullable=False),
    *_required(Text, "alias", "model", "stratum"),
    Column("feature_set", Text, nullable=False),  # of the names of the features; rows of two sets do not mix
    Column("features", LargeBinary, nullable=False),  # 32-bit floats, little-endian; empty: retention removed them
    PrimaryKeyConstraint("exchange_id", "scorer"),
    Index("predictions_newest", "scorer", "received"),
    sqlite_with_rowid=False,
)

guard_decisions = _table(
    # What each guard decided on a recorded call, as in its `guards`: core/guards.py. No text of the call. The call's
    # key, model, unit, outcome and cost are in its row of `exchanges`.
    "guard_decisions",
    *_required(Text, "exchange_id", "guard"),
    Column("on_side", Text, nullable=False),  # request or answer
    *_required(Text, "action", "result"),  # the action in force; pass, near, hit or failed
    Column("acted", Boolean, nullable=False),  # the caller got a flag, a mark or a refusal
    Column("score", Double),  # rises with what the guard objects to; NULL: it gave none
    Column("failure", Text),  # why it gave none
    Column("found", Text, nullable=False),  # names of the patterns that matched, with a blank between them
    Column("matches", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("config_hash", Text, nullable=False),  # of what decides the score
    Column("pi", Double, nullable=False),  # the probability with which the call was recorded
    Column("stratum", Text, nullable=False),
    Column("received", Double, nullable=False),  # Unix seconds: of the call's arrival
    Column("unit", Text),  # keyed digest of the unit that the guard's ramp draws for; NULL: it took no steps then
    Column("asked", Text),  # digest of key, end user and prompt, of calls with a unit; NULL: no prompt is recorded
    PrimaryKeyConstraint("exchange_id", "guard", "on_side"),
    Index("guard_decisions_newest", "guard", "received"),
    # Those that pages list.
    Index(
        "guard_decisions_marked",
        *("guard", "received"),
        sqlite_where=text("result <> 'pass'"),
        postgresql_where=text("result <> 'pass'"),
    ),
)

PREDICTION_TERMS = ("b", "d", "e1", "e2")
PREDICTION_SUMS = (
    "s_failed",
    *(f"s_{term}" for term in PREDICTION_TERMS),
    *(f"s_{first}{second}" for first, second in combinations_with_replacement(PREDICTION_TERMS, 2)),
)

prediction_sums = _table(
    # Over the exchanges of a cell of a guided scorer, sums of terms of each and of their products; prediction_sums.py
    # says which. failed: drawn ones without an answer of the scorer.
    "prediction_sums",
    *_required(Text, *CELL),
    *_required(BigInteger, "n", "failed"),
    *_required(Double, *PREDICTION_SUMS),
    PrimaryKeyConstraint(*CELL),
)

drift_states = _table(
    # State of the alarms of one model name. scorer: the predictor's target. state: JSON, see
    # features/learned/drift.py. Of a guard, scorer is `guard NAME`, and the state is that of
    # features/guards/hourly/usual_range.py.
    "drift_states",
    *_required(Text, "scorer", "alias", "state"),
    Column("at", Double, nullable=False),  # the arrival of the newest exchange in it, Unix seconds
    PrimaryKeyConstraint("scorer", "alias"),
)

TALLY = ("incarnation", "ledger", "stratum", "alias", "target", "arm", "reason")

tallies = _table(
    # The newest cumulative counts of each gateway process. ledger: seen, unsampled, sampled, enqueued or dropped.
    "tallies",
    *_required(Text, *TALLY),
    Column("n", BigInteger, nullable=False),
    PrimaryKeyConstraint(*TALLY),
)

USAGE = ("day", "incarnation", *(name for name in UsageCell._fields if name not in ("day", "key_name")))
USAGE_SUMS = UsageSums._fields
_LATER_SUMS = ("nano_gpu_seconds", "tiered_calls")
_LATER_USAGE = ("person",)

usage = _table(
    # What calls have used and cost: the newest cumulative sums of each gateway process, by UTC day; and, with the
    # incarnation "", the sums of all processes that ended some time ago. tags: with a blank
    # between them. Rows of clients' calls have a key, of shadow requests an experiment and an arm, of scorers' calls
    # their key and a scorer; the others are "".
    "usage",
    *_required(Text, *(name for name in USAGE if name not in _LATER_USAGE)),
    *_required(Text, *_LATER_USAGE, server_default=""),
    Column("key_name", Text, nullable=False),
    *_required(BigInteger, *(name for name in USAGE_SUMS if name not in _LATER_SUMS)),
    *_required(BigInteger, *_LATER_SUMS, server_default="0"),
    PrimaryKeyConstraint(*USAGE),
    sqlite_with_rowid=False,
)

marks = _table(
    # Positions in the stream before which a process reports to have enqueued `enqueued`. position: a padded stream id.
    "marks",
    *_required(Text, "incarnation", "position"),
    *_required(BigInteger, "last_seq", "enqueued"),
    Column("shard", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("incarnation", "position"),
)

ledgers = _table(
    # Each process up to its newest closed mark: what it enqueued, what arrived.
    "ledgers",
    Column("incarnation", Text, primary_key=True),
    *_required(BigInteger, "closed_seq", "enqueued"),
    Column("settled", BigInteger, nullable=False),  # stored or dead letters
    Column("shard", Integer, nullable=False, server_default="0"),  # of the stream, that the process appends to
    Column("taken", BigInteger, nullable=False, server_default="0"),  # sampled and not dropped, at its newest tally
    *_required(BigInteger, "gateway_lost", server_default="0"),  # taken, and never appended by a process that died
    Column("closed_position", Text, nullable=False, server_default=""),
    Column("tally_position", Text, nullable=False, server_default=""),  # of the newest tally
    *_required(Text, "state", server_default=""),  # "": running; stopped: shut down in order; dead: fell silent
    Column("usage_merged", Boolean, nullable=False, server_default=false()),  # into the rows of no process
)

feedback = _table(
    "feedback",
    Column("feedback_id", Text, primary_key=True),
    *_required(Text, "exchange_id", "caller"),
    Column("at", Double, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Double),
    *_optional(Text, "label", "comment", "correction"),
    Column("data_type", Text, nullable=False, server_default="numeric"),  # boolean, numeric, categorical
    Column("resolved", Text),  # the id of its exchange; NULL: this caller has no stored exchange of that id
    Index("feedback_exchange", "exchange_id"),
    Index("feedback_resolved", "resolved"),
    _partial_index("feedback_unmet", "at", where="resolved IS NULL"),
)

turns = _table(
    # Served exchanges of the last day, as turns of conversations; digests, no text. Only with implicit feedback.
    "turns",
    Column("exchange_id", Text, primary_key=True),
    Column("received", Double, nullable=False),
    Column("caller", Text, nullable=False),
    Column("scope", Text),  # of the conversation or end user; NULL: the request names none
    *_required(Text, "question", "answer"),
    Column("reply_to", Text),  # the `answer` of the turn before; NULL: a first turn
    Column("signs", Text, nullable=False),  # repeat, wrong, thanks: implicit feedback on the answer before it
    Column("parent", Text),  # what it replies to: an exchange's id, or a conversation's digest; NULL: not known (yet)
    Index("turns_received", "received"),
    Index("turns_answer", "answer"),
    Index("turns_reply_to", "reply_to"),
    Index("turns_parent", "parent"),
)

dead_letters = _table(
    # What was moved to the dead-letter stream. incarnation, seq: NULL where they could not be read.
    "dead_letters",
    Column("entry", Text, primary_key=True),
    *_required(Text, "reason", "error"),
    Column("at", Double, nullable=False),
    Column("incarnation", Text),
    Column("seq", BigInteger),
)

counters = _table(
    "counters",
    Column("name", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

deployment_secrets = _table(
    # Random secrets that are made once. "draws": keys the draws of experiments; consumers put it on the stream server.
    "deployment_secrets",
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),  # hexadecimal
)


plans = _table(
    # Every plan that ran, as it was frozen.
    "plans",
    Column("plan", Text, primary_key=True),  # its hash
    *_required(Text, "experiment", "json"),
    Column("state", Text, nullable=False),  # running, stopped
    *_required(Double, "since", "first_seen"),
)

pairs = _table(
    # A served exchange that was drawn for a shadow. place: its index in the plan's sequences; NULL until it settles.
    "pairs",
    Column("id", Text, primary_key=True),  # of the served exchange
    *_required(Text, "experiment", "plan"),
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

pair_scores = _table(
    # Scores of pair scorers: an arm's answer compared with the served one.
    "pair_scores",
    Column("score_id", Text, primary_key=True),
    *_required(Text, "pair", "arm"),
    Column("exchange_id", Text, nullable=False),  # of the arm
    *_required(Text, "experiment", "plan", "scorer", "version", "config_hash", "kind", "direction", "status"),
    Column("value", Double),
    *_optional(Text, "label", "explanation"),
    Column("detail", Text),  # JSON
    *_optional(Double, "standard_error", "cost_usd"),
    Column("judge_model", Text),
    Column("tokens", BigInteger),
    *_required(Double, "seconds", "created"),
    Index("pair_scores_pair", "pair"),
)

SEQUENCE = ("plan", "candidate", "metric", "identity")

sequences = _table(
    # candidate: the arm compared with the control; "repeat": the control with itself. identity: version and config hash
    # of the scorer, which never mix. state: JSON.
    "sequences",
    *_required(Text, *SEQUENCE),
    Column("n", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("updated", Double, nullable=False),
    PrimaryKeyConstraint(*SEQUENCE),
)

increments = _table(
    # What each pair added to each sequence. a, b: in the metric's units; difference: positive where the arm is better.
    "increments",
    *_required(Text, *SEQUENCE),
    Column("pair", Text, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("cluster", Text),
    *_required(Double, "a", "b", "difference"),
    PrimaryKeyConstraint(*SEQUENCE, "pair"),
    Index("increments_cluster", "plan", "cluster"),
)

withheld = _table(
    # Pairs that a sequence did not take, by reason and by the arm that caused it ("" for none).
    "withheld",
    *_required(Text, *SEQUENCE),
    *_required(Text, "reason", "arm"),
    Column("n", BigInteger, nullable=False),
    PrimaryKeyConstraint(*SEQUENCE, "reason", "arm"),
)

trails = _table(
    # The interval after n pairs, for geometrically growing n.
    "trails",
    *_required(Text, *SEQUENCE),
    Column("n", BigInteger, nullable=False),
    *_required(Double, "value", "low", "high"),
    PrimaryKeyConstraint(*SEQUENCE, "n"),
)

leases = _table(
    # Locks with an expiry: work that one process does at a time.
    "leases",
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires", Double, nullable=False),
)


labels = _table(
    # One person's verdict on what one scorer scored: an exchange, or a pair, by the id of its second exchange. pool …
    # horizon tell how the item was drawn; see features/labels/correction.py.
    "labels",
    Column("label_id", Text, primary_key=True),
    Column("scorer", Text, nullable=False),
    Column("subject", Text, nullable=False),  # exchange or pair
    *_required(Text, "subject_id", "labeller"),
    Column("status", Text, nullable=False),  # scored or skipped
    Column("value", Double),  # in [0, 1], 1 best; of a pair: the preference for its second answer
    *_optional(Text, "label", "comment"),
    Column("version", Text, nullable=False),  # of the scorer from whose scores the item was drawn
    Column("config_hash", Text, nullable=False),
    Column("pool", Text, nullable=False),  # an experiment; "" for everything
    Column("favour", Double, nullable=False),
    *_optional(Double, "threshold", "share"),
    *_required(Double, "horizon", "at"),
    Index("labels_subject", "scorer", "subject_id"),
)

calibration_maps = _table(
    # Each try of a map of a scorer's probability, at a number of labels that was fixed beforehand. The map in force is
    # the last that was accepted: expit(intercept + slope logit p).
    "calibration_maps",
    *_required(Text, "scorer", "version", "config_hash"),
    Column("labels", BigInteger, nullable=False),  # that it was tried with
    *_required(Double, "intercept", "slope", "level", "gain"),
    Column("accepted", Boolean, nullable=False),
    *_required(Double, "horizon", "at"),  # Unix seconds: of the newest label in it, and of the try
    PrimaryKeyConstraint("scorer", "version", "config_hash", "labels"),
)

decision_certificates = _table(
    # Each attempt to certify a threshold. attempt: JSON of features/decisions/model.py.
    "decision_certificates",
    Column("name", Text, nullable=False),
    Column("began", Double, nullable=False),  # Unix seconds: its thresholds were fixed; labels after it test them
    Column("attempt", Text, nullable=False),
    *_optional(Double, "given", "lapsed"),  # Unix seconds
    Column("reason", Text),  # why it lapsed
    PrimaryKeyConstraint("name", "began"),
)

score_costs = _table(
    # Sums over the scores that cost something; they stay when the scores are deleted.
    "score_costs",
    Column("scorer", Text, primary_key=True),
    Column("usd", Double, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)


hour_history = _table(
    # What each past hour looked like, as sums over its calls without any text; kept for five weeks.
    "hour_history",
    Column("begin", Double, primary_key=True),  # Unix seconds
    Column("sums", Text, nullable=False),  # JSON: features/today/rows.py
)

guard_hours = _table(
    # What each guard decided within each past hour, as sums over its calls without any text; kept for five weeks.
    "guard_hours",
    Column("guard", Text, nullable=False),
    Column("begin", Double, nullable=False),  # Unix seconds, as is the next
    Column("read_at", Double, nullable=False),  # when its decisions were read
    Column("sums", Text, nullable=False),  # JSON: features/guards/hourly/hours.py
    PrimaryKeyConstraint("guard", "begin"),
)

events = _table(
    # What happened to the deployment, for the lines on charts: a new version, a changed config, a ramp's step, an alarm
    # of a guard, a new model behind a name.
    "events",
    Column("id", Text, primary_key=True),
    Column("at", Double, nullable=False),  # Unix seconds
    Column("kind", Text, nullable=False),  # deploy, config, ramp, guard or model
    *_required(Text, "subject", "text"),
    Index("events_at", "at"),
)

model_hours = _table(
    # Which `model` and `system_fingerprint` the answers of each target named within each past hour; 45 days, no texts.
    "model_hours",
    Column("hour", BigInteger, primary_key=True),  # since 1970
    Column("counts", Text, nullable=False),  # JSON: features/models/rows.py
)

probe_rounds = _table(
    # Answers of each target to the probes, as digests and numbers without any text; kept for 400 days.
    "probe_rounds",
    Column("target", Text, nullable=False),
    Column("asked", Double, nullable=False),  # Unix seconds
    Column("result", Text, nullable=False),  # baseline, same, suspected, changed or gap
    Column("usd", Double, nullable=False),
    Column("round", Text, nullable=False),  # JSON: features/models/probes/model.py
    PrimaryKeyConstraint("target", "asked"),
)

model_watches = _table(
    # The state of the watch of each target of each alias; in the row without names, only the newest hour.
    "model_watches",
    *_required(Text, "alias", "upstream", "model"),
    Column("hour", BigInteger, nullable=False),  # the newest in it, since 1970
    Column("state", Text, nullable=False),  # JSON: features/models/watch/target_watch.py
    PrimaryKeyConstraint("alias", "upstream", "model"),
)

watch_hours = _table(
    # Sums over the calls of each target in each hour of the last two weeks, by cell and series; no texts.
    "watch_hours",
    *_required(Text, "alias", "upstream", "model"),
    Column("hour", BigInteger, nullable=False),  # since 1970
    Column("names", Text, nullable=False),  # JSON: the cells and the series
    Column("sums", LargeBinary, nullable=False),  # 32-bit floats, little-endian: features/models/rows.py
    PrimaryKeyConstraint("alias", "upstream", "model", "hour"),
)

replays = _table(
    # The frozen design of a replay. config_hash: of everything that influences an answer.
    "replays",
    Column("name", Text, primary_key=True),
    *_required(Text, "dataset", "dataset_hash", "config_hash"),
    Column("design", Text, nullable=False),  # JSON
    Column("created", Double, nullable=False),
)

replay_answers = _table(
    # One answer, or the last failure, of one target to one item. item, repeat: from 1.
    "replay_answers",
    Column("replay", Text, nullable=False),
    Column("item", BigInteger, nullable=False),
    Column("target", Text, nullable=False),
    Column("repeat", Integer, nullable=False),
    *_required(Text, "answer_id", "cluster"),
    Column("outcome", Text, nullable=False),  # ok, refused, failed, timeout
    Column("status", Integer),  # HTTP; NULL: there was no answer
    Column("error", Text),
    Column("upstream", Text),  # that answered
    *_optional(Text, "model", "finish_reason"),
    *_optional(BigInteger, "input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"),
    Column("cost_usd", Double),
    *_required(Double, "seconds", "asked"),
    Column("exchange_id", Text),  # the gateway's own id of the call
    Column("text", Text, nullable=False),
    Column("response", LargeBinary, nullable=False),
    PrimaryKeyConstraint("replay", "item", "target", "repeat"),
    Index("replay_answers_id", "answer_id", unique=True),
)


gaps = _table(
    # Sequence numbers of a process, in (low_seq, high_seq], of which some never arrived. They were sent between two
    # tallies, at from_position and to_position. reason: stream_lost or trimmed; "" if unaccounted for.
    "gaps",
    Column("incarnation", Text, nullable=False),
    *_required(BigInteger, "low_seq", "high_seq"),
    Column("shard", Integer, nullable=False),
    *_required(Text, "from_position", "to_position"),
    Column("missing", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("incarnation", "high_seq"),
)

incidents = _table(
    # Incidents of a shard of the stream, between two positions. reason: stream_lost (its server was restarted or
    # replaced) or trimmed (entries were trimmed before they were read).
    "incidents",
    Column("shard", Integer, nullable=False),
    *_required(Text, "from_position", "to_position", "reason"),
    PrimaryKeyConstraint("shard", "to_position", "reason"),
)

stream_nodes = _table(
    # The server of a shard at the last snapshot. confirmed: its time then, as a position.
    "stream_nodes",
    Column("shard", Integer, primary_key=True, autoincrement=False),
    *_required(Text, "run_id", "confirmed", "trimmed_to"),
)

directory_state = _table(
    # One row. version: of the newest change of a key, team or organization. epoch: of this store; publication relies on
    # it to tell two stores apart.
    "directory_state",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
)


webhook_deliveries = _table(
    # One row for each event and receiver, written before the first attempt.
    "webhook_deliveries",
    Column("event", Text, primary_key=True),  # the id of the event, which the receiver sees as webhook-id
    Column("webhook", Text, primary_key=True),  # its name in gateway.yaml
    Column("experiment", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON, the same at each attempt
    Column("state", Text, nullable=False),  # pending, delivered, dead
    Column("attempts", Integer, nullable=False),
    Column("created", Double, nullable=False),  # Unix seconds, as are due and ended
    Column("due", Double, nullable=False),  # of the next attempt
    Column("ended", Double),  # NULL: pending
    Column("error", Text),  # of the last attempt that failed
    Column("priority", Integer, nullable=False, server_default="1"),  # a core.notice.Priority
    Index("webhook_deliveries_due", "state", "due"),
)


def _directory_columns() -> tuple[Column[Any], ...]:
    """Columns that keys, teams and organizations have in common. deleted: Unix seconds; NULL: it is in force."""
    return (
        Column("id", Text, primary_key=True),
        Column("limits", Text, nullable=False),  # JSON, as in gateway.yaml
        Column("disabled", Boolean, nullable=False),
        Column("created", Double, nullable=False),
        Column("updated", Double, nullable=False),
        Column("deleted", Double),
        Column("version", BigInteger, nullable=False),  # of the directory, at its last change
    )


organizations = _table(
    "organizations",
    *_directory_columns(),
    Index("organizations_version", "version"),
)

teams = _table(
    "teams",
    *_directory_columns(),
    Column("organization", Text),
    Column("models", Text),  # JSON; NULL: all
    Column("tags", Text, nullable=False),  # JSON
    Column("networks", Text),  # JSON; NULL: everywhere
    Index("teams_version", "version"),
    Index("teams_organization", "organization"),
)

keys = _table(
    # The keys that were made while the gateways ran. Their secrets are nowhere; digests are SHA-256.
    "keys",
    *_directory_columns(),
    Column("name", Text, nullable=False),
    Column("team", Text),
    Column("models", Text),  # JSON; NULL: all
    Column("tags", Text, nullable=False),  # JSON
    Column("allow", Text, nullable=False),  # JSON
    Column("sample", Text, nullable=False),
    Column("content", Text),
    Column("expires", Double),
    Column("end_streams", Boolean, nullable=False),
    Column("digests", Text, nullable=False),  # JSON: [SHA-256, Unix seconds at which it ends or null]
    Column("networks", Text),  # JSON; NULL: everywhere
    Column("traffic_class", Text, nullable=False, server_default="normal"),
    Column("paths", Text),  # JSON; NULL: all
    Column("person", Text),
    Index("keys_version", "version"),
    Index("keys_team", "team"),
    _partial_index("keys_name", "name", where="deleted IS NULL", unique=True),
)

audit = _table(
    # Append-only: triggers refuse updates and deletions. before, after: JSON without digests.
    "audit",
    Column("id", Text, primary_key=True),  # ordered by time
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),  # the name of the admin token
    Column("role", Text, nullable=False),
    Column("action", Text, nullable=False),  # create, change, rotate, delete, start, stop, replay, accept
    Column("kind", Text, nullable=False),  # key, team, organization, experiment, dead_letters, drift, run
    Column("subject", Text, nullable=False),  # its id
    *_optional(Text, "before", "after"),
    Index("audit_subject", "subject", "id"),
)

ramp_events = _table(
    # Every change of a ramp. Append-only: triggers refuse updates and deletions.
    "ramp_events",
    Column("id", Text, primary_key=True),  # of its entry in the stream of events
    Column("experiment", Text, nullable=False),
    Column("plan", Text, nullable=False),  # the plan's hash
    Column("version", BigInteger, nullable=False),  # of the record; rises with each change of the experiment
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),  # who: controller, a person, the name of an admin token
    Column("kind", Text, nullable=False),  # shadowing, advanced, promoted, rolled_back, stopped, paused, resumed, …
    Column("reason", Text, nullable=False),
    Column("before", Text),  # JSON: [state, step]; NULL: there was no record
    Column("record", Text, nullable=False),  # JSON: the record after it
    Column("evidence", Text, nullable=False),  # JSON: as it was known then
    Index("ramp_events_experiment", "experiment", "version"),
)

console_sessions = _table(
    # Who is signed in to the console.
    "console_sessions",
    Column("digest", Text, primary_key=True),  # SHA-256 of the cookie
    *_required(Text, "name", "role"),
    Column("content", Boolean, nullable=False),
    Column("token", Text, nullable=False),  # SHA-256 of the admin token; "": none
    *_required(Double, "created", "expires"),
    *_optional(Text, "team", "organization"),  # to which its rights are limited; NULL: they are not
)

console_links = _table(
    # Login links that were used. expires: after which the link is refused anyhow, and the row is removed.
    "console_links",
    Column("digest", Text, primary_key=True),
    Column("expires", Double, nullable=False),
)
