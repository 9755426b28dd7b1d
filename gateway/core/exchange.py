"""The record that both programs share: one request with its response, and its encoding in the stream.

completion.py reads the answer's content from its bytes; this module only holds and encodes the record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from hashlib import sha256
from operator import attrgetter, itemgetter
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid5

import orjson

from gateway.core.usage import UsageCount, usage_count
from gateway.core.variant_text import AS_DECISION

VERSION = 1
"""The version of the records of traffic. A consumer reads this one, the previous one, and IMPORTED_VERSION."""
IMPORTED_VERSION = VERSION + 1
"""The version of the records of imported calls: an older consumer leaves them in the dead letters, and says why."""

Role = Literal["served", "shadow", "control", "imported"]
IMPORTED: Role = "imported"
"""The role of a call that another program made, and recorded as a trace: scored and found like others, but part of no
mean, sum, population or experiment."""
Outcome = Literal["ok", "client_gone", "client_deadline", "blocked", "upstream_error", "timeout", "cut"]
CLIENT_ENDED: frozenset[Outcome] = frozenset({"client_gone", "client_deadline", "blocked"})
"""The outcomes of which the target is not the cause: the client left, the deadline that it had set passed, or a guard
refused the request or the answer. None is a failure of the target."""
Form = Literal["raw", "assembled"]
Fields = dict[bytes, bytes]  # one entry of the stream
DELTA = b"delta"
"""The kind of an entry that holds only the part of its request that an earlier one does not have (request_delta.py)."""


@dataclass(frozen=True, slots=True)
class Target:
    """Destination of a request. As text it is "upstream/model", or "upstream/model[variant]": in headers, metrics,
    Tallies and messages."""

    upstream: str  # its key under `upstreams` in gateway.yaml
    model: str  # the upstream's own name for the model
    variant: str = ""  # what it changes in every request, as variant_text writes it; "": nothing

    def __str__(self) -> str:
        return f"{self.upstream}/{self.label}"

    @property
    def label(self) -> str:
        """The target without its upstream: "model", or "model[variant]"."""
        return f"{self.model}[{self.variant}]" if self.variant else self.model

    @property
    def decides(self) -> bool:
        """Whether its requests become decisions, and their answers the objects that schemas ask for."""
        return self.variant.partition(",")[0] == AS_DECISION

    def fields(self) -> dict[str, str]:
        """JSON-able. Without a variant, as it was before there were variants."""
        plain = {"upstream": self.upstream, "model": self.model}
        return {**plain, "variant": self.variant} if self.variant else plain


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the upstream counted them. None if it did not report them, which is not the same as 0."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    usd: float | None = None
    """The bill that the upstream states, which wins over prices; read from decisions only."""

    def tokens(self) -> dict[str, int | None]:
        """JSON-able, without the bill."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_input_tokens": self.cached_input_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }


DECLINED = "answered, and a cascade did not accept the answer"
"""Failure of an attempt whose answer was complete, and did not go out."""


@dataclass(frozen=True, slots=True)
class Attempt:
    target: Target
    status: int | None  # the upstream's; None: no response
    failure: str | None  # None: it answered
    seconds: float  # that it took
    usage: Usage | None = None  # None if it reported none

    @property
    def declined(self) -> bool:
        return self.failure == DECLINED


@dataclass(slots=True)  # assigned to by its maker only; freezing it would cost 2 µs a call, more than filling it
class Exchange:
    """One request and its answer. Exchange, Tally and Feedback are all the data that the two programs share."""

    id: str  # UUIDv7, always ours; answered as x-request-id
    received: float  # Unix time, seconds
    caller: str  # key name, never the key
    api: str  # chat, completions, responses, messages, …
    alias: str  # the model the client named
    target: Target  # that answered, or was attempted last
    stream: bool  # the client asked for a stream
    request: bytes  # the JSON body as sent upstream; data: URLs replaced by sha256 + size + type
    response: bytes  # form "raw": the body or the SSE bytes; "assembled": canonical JSON of a Completion
    status: int  # the client's HTTP status
    outcome: Outcome  # ok: complete; client_*: the client left, or its deadline passed; blocked: by a guard
    total_s: float  # from received to the end of the answer
    unit: str  # what was hashed
    u: float  # the hash, scaled to [0, 1)
    pi: float | None  # inclusion probability with which it was sampled, in (0, 1]; None: of an import, and unknown
    stratum: str  # the rule that gave pi; closed set, from config
    incarnation: str  # of the gateway process; with seq: gaps are losses, and are counted
    seq: int  # from 1, without a gap, by incarnation
    v: int = VERSION  # version of the record
    pair: str | None = None  # a shadow's or control's served exchange
    role: Role = "served"  # the client got a served answer only; imported: a trace of another program
    experiment: str | None = None  # with plan (hash) and arm; None if in no experiment
    plan: str | None = None  # the experiment's plan, by its hash
    arm: str | None = None  # of the experiment: control, candidate, …
    asked: tuple[str, ...] = ()  # of a served exchange: the shadow arms of this request; each has its own record
    not_asked: str | None = None  # why no shadow was sent although one was drawn; decided before sending, so no pair
    cluster: str | None = None  # exchanges of one conversation or user depend on each other: one increment for each
    form: Form = "raw"  # of the response
    truncated: bool = False  # the byte cap cut request or response
    spliced: bool = False  # continued on another target after a cut
    usage: Usage | None = None  # of the target; None if it reported none
    upstream_id: str | None = None  # the upstream's id of its answer, where it is not in the response
    client_id: str | None = None  # the client's own x-request-id
    attempts: tuple[Attempt, ...] = ()  # at targets, in order, with failed ones
    first_token_s: float | None = None  # from received to the first content (reasoning and tool deltas count)
    reference: str | None = None  # the right answer, where a header gave one
    request_digest: str | None = None  # of the arms of a shadow pair: of the request as sent, less what must differ
    likelihood: str | None = None  # JSON of an AnswerLikelihood; None if not a request for the likelihood of an answer

    user_digest: str | None = None  # of the end user that the request names; None if none, or only metadata is recorded
    client_bytes: int | None = None
    """Length of the body as the client sent it, before the target's model name, `system` and `set` were applied. None
    if in no experiment, or of an older gateway. The arms of a shadow pair have that of their served call.
    """
    run: str | None = None
    """The client's id of the run, the calls of one task; a digest of it where not all content is recorded. None if the
    call names none, or was not made by a client. A run belongs to its caller: run_key has both."""
    run_source: str | None = None  # the member or header that named it: "x-gateway-run", "metadata.run_id", …
    score_rate: float | None = None
    """Threshold on u with runs as the unit of sampling: the call is scored by itself if u is below this. None: if it is
    recorded."""
    tags: str | None = None  # that the call gave itself, as "key=value", with a blank between them
    route: str | None = None
    """The learned route that chose the target, and the leaf: "small-where-safe/3". None if none was asked."""
    tied: bool | None = None
    """Whether the record is a copy of the served answer, for an arm whose learned route keeps the control: the arms are
    equal, except in cost and time where a cascade has asked its first target before (`attempts`). Otherwise nothing was
    sent. None: the record of a request."""
    segments: str | None = None
    """JSON of the call's CallSegments (core/segments.py). None if in no experiment with segments. The arms of a shadow
    pair have that of their served call."""
    fell_back: bool | None = None
    """Whether this target answered because the one that the learned route chose did not. None if that one answered, or
    no route chose.
    """
    guards: str | None = None
    """JSON of the decisions of the guards on the call (core/guards.py). None if no guard looked at it."""
    team: str | None = None  # of the caller, when it called; of a shadow, that of its served call. None if it had none
    tier: str | None = None
    """`budget`: the call went to the cheaper tier, because a budget was nearly used up. None if it did not."""
    gpu_seconds: float | None = None
    """GPU-seconds of the user's own engines, at their price by tokens. None if no target that was used has one."""
    prompt_digest: str | None = None
    """Digest of the prompt under the deployment's secret (core/prompt_digest.py). None if no pair began with the call,
    or its plan has older rules. The arms of a shadow pair have that of their served call."""
    fingerprint: str | None = None
    """`system_fingerprint` of the answer: of its server. None if it has none, or of an older gateway."""
    model_returned: str | None = None
    """The model that the answer names, which may be a dated version of the target's. None if it names none, was cut, or
    is of an older gateway."""
    decision: str | None = None
    """JSON of the probabilities behind an answer that a target with `as: decision` gave (core/stated_decision.py). None
    for any other answer, or if only metadata is recorded."""

    def to_fields(self) -> Fields:
        """The stream entry: a JSON head, and the two bodies apart from it, so that they are never re-encoded."""
        # The nested dataclasses become dicts here: orjson takes twice as long for dataclasses.
        head = dict(zip(_HEAD, _head_of(self), strict=True))
        head["target"] = _of_target(self.target)
        head["usage"] = _of_usage(self.usage)
        head["attempts"] = [_of_attempt(a) for a in self.attempts]
        return {b"kind": b"exchange", b"head": orjson.dumps(head), b"req": self.request, b"res": self.response}


# The field table: the codec, the store's table `exchanges` and its rows are derived from the dataclass, so that a new
# field is added there and nowhere else. (A field that is stored also needs a numbered migration.)
_NAMES = tuple(f.name for f in fields(Exchange))
_HEAD = tuple(name for name in _NAMES if name not in ("request", "response"))
_head_of = attrgetter(*_HEAD)
_IN_ORDER = itemgetter(*_NAMES)
_DEFAULTS = {f.name: f.default for f in fields(Exchange) if f.default is not MISSING}
_NOT_STORED = frozenset({"v", "asked", "not_asked"})
_STORED_OTHERWISE = frozenset({"target", "usage", "attempts", "upstream_id"})  # in several columns, as JSON, completed
STORED_FIELDS: Mapping[str, str] = {
    f.name: str(f.type) for f in fields(Exchange) if f.name not in _NOT_STORED | _STORED_OTHERWISE
}
"""The fields that the store holds in a column of the same name, with their annotations ("str", "float | None", …)."""


def _of_target(t: Target) -> dict[str, Any]:
    return t.fields() if t.variant else {"upstream": t.upstream, "model": t.model}


def _of_usage(u: Usage | None) -> dict[str, Any] | None:
    if u is None:
        return None
    tokens = {
        "input_tokens": u.input_tokens,
        "output_tokens": u.output_tokens,
        "cached_input_tokens": u.cached_input_tokens,
        "reasoning_tokens": u.reasoning_tokens,
    }
    return tokens if u.usd is None else {**tokens, "usd": u.usd}


def _of_attempt(a: Attempt) -> dict[str, Any]:
    return {
        "target": _of_target(a.target),
        "status": a.status,
        "failure": a.failure,
        "seconds": a.seconds,
        "usage": _of_usage(a.usage),
    }


@dataclass(frozen=True, slots=True)
class Tally:
    """One gateway process's counts since it started: cumulative, appended within a second of a change, and each 15 s
    without one. Cells that are left out have not changed since an earlier tally; now and then, and at the end, a tally
    has all of them.

    Counts are keyed by stratum, alias, target ("upstream/model") and arm ("" for none). The N_h of each stratum comes
    from here. unsampled and dropped also have a reason.
    """

    incarnation: str  # of the gateway process
    at: float  # Unix time, seconds
    last_seq: int  # the seq of the newest record before this tally in the stream
    seen: tuple[Count, ...] = ()  # calls that reached an upstream: seen = unsampled + sampled
    unsampled: tuple[Count, ...] = ()  # calls of which no record was wanted, by reason
    sampled: tuple[Count, ...] = ()  # calls to record: sampled = enqueued + dropped + those that wait
    enqueued: tuple[Count, ...] = ()  # records that the stream server took
    dropped: tuple[Count, ...] = ()  # records that the gateway gave up, by reason
    final: bool = False  # the process is stopping; nothing comes after
    v: int = VERSION  # version of the record
    usage: tuple[UsageCount, ...] = ()
    """Usage and cost of calls, over all traffic."""
    taken: int | None = None
    """Records that the process took into its buffer, of one that was killed and left this number; None: as counted."""

    def to_fields(self) -> Fields:
        return {b"kind": b"tally", b"head": orjson.dumps(self, _tuple, orjson.OPT_PASSTHROUGH_SUBCLASS)}


def _tuple(value: Any) -> tuple[Any, ...]:
    """A plain tuple: orjson knows tuples and not their subclasses."""
    return tuple(value)


@dataclass(frozen=True, slots=True)
class Count:
    """The number of exchanges in one cell."""

    stratum: str
    alias: str
    target: str
    arm: str
    n: int
    reason: str = ""  # only for unsampled and dropped


@dataclass(frozen=True, slots=True)
class Feedback:
    """A person's feedback on one exchange or one run, from `POST /v1/feedback`."""

    id: str  # the exchange's, or the upstream's own id of its answer, or "run:" and the client's id of a run
    feedback_id: str  # for idempotency: the same id replaces earlier feedback and never adds
    caller: str  # key name, never the key
    at: float  # Unix time, seconds
    name: str  # of what is rated, as "thumbs"
    value: float | None = None  # the rating; None if there is a label or a text only
    label: str | None = None  # the rating of a categorical feedback
    comment: str | None = None  # free text
    correction: str | None = None  # the answer that would have been right
    v: int = VERSION  # version of the record
    data_type: str = "numeric"  # of value or label: boolean, numeric or categorical

    def to_fields(self) -> Fields:
        return {b"kind": b"feedback", b"head": orjson.dumps(self)}


_VERSIONS = (VERSION - 1, VERSION, IMPORTED_VERSION)
Record = Exchange | Tally | Feedback
OF_RUN = "run:"
"""Prefix of the client's id of a run, where feedback names one."""


def user_digest(user: str) -> str:
    """An end user's name in records: enough to find all that is recorded of one, and not the name itself."""
    return sha256(f"user:{user}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


def cluster_digest(unit: str) -> str:
    """The digest by which records name what makes calls depend on each other: a split's unit or a conversation."""
    return sha256(unit.encode("utf-8", "surrogatepass")).hexdigest()[:16]


RUN = "run_"
"""Begins our ids of runs."""


def run_key(caller: str, run: str) -> str:
    """The gateway's own id of a run: it belongs to one caller, even if others use the same id. Samples and arms are
    drawn by it."""
    named = f"run:{caller}\0{run}".encode("utf-8", "surrogatepass")
    return f"{RUN}{sha256(named).hexdigest()[:24]}"


def word_id(caller: str, own: str) -> str:
    """A feedback_id derived from an idempotency key (`own`) of this caller."""
    return str(uuid5(_FEEDBACK_SPACE, f"{caller}\0{own}"))


def only_word_id(caller: str, exchange: str, name: str) -> str:
    """The feedback_id without an idempotency key: one feedback for each caller, exchange and name."""
    return word_id(caller, f"name\0{exchange}\0{name}")


_FEEDBACK_SPACE = UUID("7b1c0d5e-6f0a-5d1c-9a53-0f5f3c8e7a11")


def from_fields(entry: Mapping[bytes, bytes]) -> Record:
    """A stream entry back to its record.

    Members that a newer minor writer has added are ignored, at every level. Raises ValueError, with the reason, if the
    entry is not a record, lacks a field, has a version that this consumer does not read, or no inclusion probability.
    """
    kind = entry.get(b"kind", b"")
    try:
        head: dict[str, Any] = orjson.loads(entry[b"head"])
        if head["v"] not in _VERSIONS:
            raise ValueError(f"record version {head['v']}; this consumer reads {VERSION - 1} to {IMPORTED_VERSION}")
        record: Record = _READERS[kind](head, entry)
        return record
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"not a record: kind {kind!r}: {type(error).__name__}: {error}") from error


def _exchange(head: dict[str, Any], entry: Mapping[bytes, bytes]) -> Exchange:
    head["request"], head["response"] = entry[b"req"], entry[b"res"]
    pi = head["pi"]
    if pi is None:
        if head.get("role") != IMPORTED:
            raise ValueError("pi: null, expected a probability; only imported calls may have none")
    elif not 0.0 < pi <= 1.0:
        raise ValueError(f"pi: {pi!r}, expected a probability above 0 and at most 1")
    head["target"] = _read(Target, head["target"])
    head["usage"] = _read(Usage, head["usage"]) if head.get("usage") else None
    head["attempts"] = tuple([_attempt(a) for a in head.get("attempts", ())])
    head["asked"] = tuple(head.get("asked", ()))
    try:  # by position: keyword arguments for forty fields cost twice as much as all the rest
        return Exchange(*_IN_ORDER(head))
    except KeyError:  # from an older writer that did not know some field
        return Exchange(*_IN_ORDER(_DEFAULTS | head))


def _delta(head: dict[str, Any], entry: Mapping[bytes, bytes]) -> Exchange:
    """A delta without its base. The call's request is unknown, and is treated as one that was cut."""
    head["truncated"] = True
    return _exchange(head, {**entry, b"req": b"{}"})


Part = TypeVar("Part", Target, Usage, Count)


def _read(part: type[Part], members: dict[str, Any]) -> Part:
    """A part of a record, without the members that this version does not know."""
    try:
        return part(**members)
    except TypeError:
        known = part.__dataclass_fields__
        return part(**{name: value for name, value in members.items() if name in known})


def _attempt(a: dict[str, Any]) -> Attempt:
    usage = _read(Usage, a["usage"]) if a.get("usage") else None
    return Attempt(_read(Target, a["target"]), a["status"], a["failure"], a["seconds"], usage)


def _tally(head: dict[str, Any], _: Mapping[bytes, bytes]) -> Tally:
    for name in ("seen", "unsampled", "sampled", "enqueued", "dropped"):
        head[name] = tuple([_read(Count, c) for c in head.get(name, ())])
    head["usage"] = tuple(map(usage_count, head.get("usage", ())))
    return Tally(**{k: v for k, v in head.items() if k in _TALLY})


def _feedback(head: dict[str, Any], _: Mapping[bytes, bytes]) -> Feedback:
    return Feedback(**{k: v for k, v in head.items() if k in _FEEDBACK})


_FEEDBACK = frozenset(f.name for f in fields(Feedback))
_TALLY = frozenset(f.name for f in fields(Tally))


_READERS: dict[bytes, Any] = {b"exchange": _exchange, DELTA: _delta, b"tally": _tally, b"feedback": _feedback}


def new_id(now_ns: int | None = None, entropy: bytes | None = None) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits. 36 characters.

    now_ns: Unix time in nanoseconds; entropy: 10 bytes. Both default to the real ones.
    """
    ms = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    t = f"{ms:012x}"
    r = (os.urandom(10) if entropy is None else entropy).hex()
    return f"{t[:8]}-{t[8:]}-7{r[1:4]}-{_VARIANT[r[4]]}{r[5:8]}-{r[8:]}"


def floor_id(at: float) -> str:
    """An id that is below all that new_id makes from this moment on, and above all earlier ones. at: Unix seconds."""
    t = f"{max(0, int(at * 1000)):012x}"
    return f"{t[:8]}-{t[8:]}"


_VARIANT = {f"{n:x}": "89ab"[n & 3] for n in range(16)}  # the two highest bits are 1 and 0
