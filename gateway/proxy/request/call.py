"""One request after parsing: the caller, the model, and the options of the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, NamedTuple, Self

from msgspec import Raw

from gateway.config.privacy import Content
from gateway.core.call_scopes import CallScopes
from gateway.core.errors import KeyBusy
from gateway.core.limits import LimitScope
from gateway.core.run_ceilings import RunBudget
from gateway.core.traffic_class import TrafficClass
from gateway.proxy.request.json_members import (
    SLICED_BYTES,
    Change,
    Members,
    decoded_member,
    edited,
    edited_slices,
    read_members,
)
from gateway.proxy.request.upload import Upload
from gateway.proxy.types import Headers

Api = Literal[
    "chat",
    "completions",
    "embeddings",
    "responses",
    "compact",
    "input_tokens",
    "messages",
    "count_tokens",
    "moderations",
    "rerank",
    "score",
    "classify",
    "pooling",
    "tokenize",
    "detokenize",
    "transcriptions",
    "translations",
    "speech",
    "images",
    "chat_batch",
    "decisions",
    "systemone",
    "generate",
    "generate_content",
    "gemini_count_tokens",
    "converse",
    "invoke_model",
    "bedrock_count_tokens",
    "passthrough",
]
DECISION_APIS: frozenset[Api] = frozenset({"decisions", "systemone"})
"""OpenAI's Decisions API and System One's: typed questions, and a probability for each option."""


class CallerLimit:
    """The calls of one key in flight, and how many may be. It outlives a reload, so that no call is forgotten."""

    __slots__ = ("in_flight", "most")

    def __init__(self) -> None:
        self.in_flight = 0
        self.most: int | None = None
        """The largest number of calls in flight; None: no limit."""

    def enter(self) -> Self:
        """Counts a call until `leave`, and returns itself. Raises KeyBusy at the limit."""
        if self.most is not None and self.in_flight >= self.most:
            raise KeyBusy(
                f"this key has {self.in_flight} requests in flight, its limit; retry when one has ended",
                retry_after_s=1,
            )
        self.in_flight += 1
        return self

    def leave(self) -> None:
        self.in_flight -= 1

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of an API key."""

    name: str
    models: frozenset[str] | None = None
    """The aliases it may use; None: all."""
    allow: frozenset[str] = frozenset()
    """The x-gateway-* options its requests may set (`keys[].allow`)."""
    sampled: bool = True
    """Whether the caller takes part in evaluation; False if it opted out."""
    content: Content = "full"
    """The content of its exchanges that may be recorded."""
    limit: CallerLimit | None = field(default=None, compare=False)
    """The limit of its calls in flight; None means that they are not counted."""
    id: str = ""
    """Stable, unlike the name of a dynamic key; "" if the request came without a key."""
    team: str | None = None
    person: str | None = None
    organization: str | None = None
    tags: tuple[str, ...] = ()
    """Labels of its own and of its team, for sums of its usage."""
    call_tags: tuple[str, ...] = ()
    """Tags that the call gave itself, as "key=value"; of a caller that was made for such calls."""
    scopes: tuple[LimitScope, ...] = ()
    """Key, person, team and organization, as far as they have limits; () if no limit holds for all of its calls."""
    of_call: CallScopes | None = None
    """Limits of some of its calls: to a model, of an end user, with a tag; None if there are none."""
    until: float | None = field(default=None, compare=False)
    """Unix time at which its key, or the secret that it sent, expires; None: never."""
    networks: tuple[tuple[IPv4Network | IPv6Network, ...], ...] = ()
    """Networks from which it may call: its address must be in each of these, its own and its team's; (): everywhere."""
    sees_upstreams: bool = True
    """Whether responses may tell it the names of upstreams and their models."""
    traffic_class: TrafficClass = "normal"
    """The order in which its calls are served where they have to wait."""
    paths: tuple[str, ...] | None = None
    """Paths outside the routed endpoints that it may use, if it may use any; None: all."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options of one request in its x-gateway-* headers, as far as its key allows that."""

    target: str | None = None
    """"upstream/model"; None means that the router chooses."""
    sample: str | None = None
    """"always" or "never"; None: sampled like any other request."""
    timeout_s: float | None = None
    """Shortens timeouts.total_s, never extends it; every key may send it."""
    scorer: str | None = None
    """The scorer that makes the call; it counts for the scorers' own key only."""


NO_OPTIONS = RequestOptions()


class RunId(NamedTuple):
    """The run that a call names: the calls of one task."""

    id: str
    """The client's own; a digest of it where not all content of the caller is recorded."""
    source: str
    """The header or member that named it."""
    key: str
    """The gateway's own id, of this caller alone: exchange.run_key."""
    counted: str = ""
    """The gateway's id of the run whose ceiling counts: of the parent where the call names one; "": its own."""
    budget: RunBudget | None = None
    """The ceiling that the call itself asks for."""


@dataclass(slots=True)  # not frozen: built for every call, and a frozen dataclass costs more to fill
class Call:
    """One parsed request. Never assigned to after it is built.

    `fields` has every top-level member of the body. Those that the gateway reads are decoded, unless they are large;
    all others are `...`. It is {} for an upload.
    """

    id: str
    received: float  # Unix seconds
    started: float  # monotonic seconds
    caller: Caller
    api: Api
    method: bytes
    path: bytes  # below /v1, with its query: b"/chat/completions"
    alias: str  # the model that the client named
    stream: bool
    body: bytes  # as the client sent it; b"" for an upload
    fields: dict[str, Any] = field(default_factory=dict)  # the body's members; see below
    headers: Headers = field(default_factory=list)  # the client's, reduced to those that are forwarded
    client_id: str | None = None  # the client's own x-request-id
    conversation: str | None = None
    reference: str | None = None  # the reference answer, from x-gateway-reference
    user: str | None = None  # from x-gateway-user; the body may name another in `user`
    upload: Upload | None = None  # a multipart form that is still arriving; None: not a form
    passed: Headers = field(default_factory=list)  # the client's headers that some upstreams get (`pass_headers`)
    members: Members | None = None  # the slices of `body`; None if not found yet
    changes: Mapping[str, Change] | None = None  # the members that the upstream gets in place of the body's own
    named: str = ""  # the model that the client named, where `alias` is the pattern that it matches
    default_output: int | None = (
        None  # the limit of its answers where it names none itself; None means that none is added
    )
    run: RunId | None = None  # None: the call names none, and is a run of its own
    prefill: bool = False  # it asks for the likelihood of an answer: nothing that steers how one is drawn is set

    @property
    def asked_usage(self) -> bool:
        """The client itself requested the usage chunk of a stream."""
        options = self.fields.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    def slices(self) -> Members:
        """The top-level members of `body`. Raises what read_members raises."""
        return read_members(self.body) if self.members is None else self.members

    def read(self, name: str) -> Any:
        """A top-level member, decoded however large it is; None if there is none. Raises BadRequest."""
        found = self.fields.get(name)
        return decoded_member(self.slices()[name], name) if found is ... else found

    def current(self, name: str) -> Raw | bytes | None:
        """The JSON of a top-level member, with the changes; None if there is none."""
        if self.changes is not None and name in self.changes:
            change = self.changes[name]
            return b"".join(change) if isinstance(change, tuple) else change
        return self.slices().get(name)

    def changed(self, changes: Mapping[str, Change]) -> Self:
        """The call with these changes besides its own; nothing is copied."""
        return replace(self, changes={**(self.changes or {}), **changes})

    def with_body(self, body: bytes, fields: dict[str, Any]) -> Self:
        """The call with another body, which is its own."""
        return replace(self, body=body, fields=fields, members=None, changes=None)

    def body_with(self, changes: Mapping[str, Change]) -> bytes:
        """The body with the call's changes and these, which win: the same object if nothing changes."""
        if self.changes is not None:
            changes = {**self.changes, **changes}
        return edited(self.body, read_members(self.body) if self.members is None else self.members, changes)

    def sent_with(self, changes: Mapping[str, Change]) -> bytes | tuple[bytes | memoryview, ...]:
        """The body like `body_with`; a large one in slices."""
        if len(self.body) <= SLICED_BYTES:
            return self.body_with(changes)
        if self.changes is not None:
            changes = {**self.changes, **changes}
        return tuple(edited_slices(self.body, self.slices(), changes))


_LONGEST_USER = 512


def end_user_of(call: Call) -> str | None:
    """The end user that a call names: in `x-gateway-user`, `safety_identifier`, `user`, or Anthropic's
    `metadata.user_id`. None if it names none."""
    metadata = call.fields.get("metadata")
    named = metadata.get("user_id") if isinstance(metadata, dict) else None
    found = call.user or call.fields.get("safety_identifier") or call.fields.get("user") or named
    return found[:_LONGEST_USER] if isinstance(found, str) and found else None
