"""The words of room 1: who calls, what is called, and where it may go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.config.privacy import Content
from gateway.proxy.request.upload import Upload
from gateway.proxy.types import Headers

Api = Literal[
    "chat",
    "completions",
    "embeddings",
    "responses",
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
    "passthrough",
]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. models: the aliases it may use, None: all. allow: what its headers may ask for (config.Key.allow).
    sampled: False for a caller that opted out of evaluation. content: how much of its exchanges may be kept."""

    name: str
    models: frozenset[str] | None = None
    allow: frozenset[str] = frozenset()
    sampled: bool = True
    content: Content = "full"


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What one request asks for in its x-gateway-* headers, as far as its key allows that."""

    target: str | None = None
    """"upstream/model"; None: the router chooses."""
    sample: str | None = None
    """"always" or "never"; None: sampled like any other request."""
    timeout_s: float | None = None
    """Shortens timeouts.total_s, never extends it; every key may send it."""


NO_OPTIONS = RequestOptions()


@dataclass(slots=True)  # one a call: freezing it would cost more than filling it; nobody assigns to it
class Call:
    """One request, read. Nothing of it changes afterwards.

    body: as the client sent it; b"" where `upload` is a form that still comes. fields: its parsed JSON object, or {}.
    headers: the client's, allow-listed for forwarding. started: monotonic seconds; received: Unix seconds.
    path: below the version ("/chat/completions"), with its query.
    """

    id: str
    received: float
    started: float
    caller: Caller
    api: Api
    method: bytes
    path: bytes
    alias: str
    stream: bool
    body: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    headers: Headers = field(default_factory=list)
    client_id: str | None = None
    conversation: str | None = None
    reference: str | None = None  # the right answer, by header
    user: str | None = None  # by header; the body may name another in `user`
    upload: Upload | None = None  # None: not a form

    @property
    def asked_usage(self) -> bool:
        """The client itself asked for the usage chunk of a stream."""
        options = self.fields.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True
