"""Header allow-lists: the client's headers that go upstream, and the upstream's that go to the client."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.proxy.types import Headers

_UPSTREAM = frozenset(
    {
        b"traceparent", b"tracestate", b"user-agent", b"content-type", b"accept", b"accept-language",
        b"openai-beta", b"anthropic-version", b"anthropic-beta",
        b"idempotency-key", b"http-referer", b"x-title", b"x-client-request-id",
    }
)  # fmt: skip
_OF_EVERY_REQUEST = frozenset(
    {b"host", b"authorization", b"content-type", b"content-length", b"connection", b"accept-encoding"}
)
"""Headers that most clients send and no upstream gets, so that most headers need no closer look."""
_WITH_JSON = _UPSTREAM - {b"content-type"}
STREAM_TYPES = (b"text/event-stream", b"application/vnd.amazon.eventstream")
"""Media types of streams that dialects read: events, and the frames of AWS."""
JSON_TYPE: tuple[bytes, bytes] = (b"content-type", b"application/json")
_CLIENT = frozenset(
    {
        b"content-type",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        b"content-disposition",
        b"metadata",  # of vLLM's embeddings in bytes: shapes and usage
    }
)
_OF_THE_CONNECTION = frozenset(
    {b"date", b"server", b"content-length", b"connection", b"keep-alive", b"transfer-encoding", b"vary"}
)
"""Headers that most upstreams send and no client gets, so that most headers need no closer look."""
_BEDROCK = (b"x-amzn-bedrock-", b"x-amzn-errortype")  # what Bedrock's own clients read
_UPSTREAM_TIME = b"openai-processing-ms"
_UPSTREAM_ACCOUNT = b"openai-organization"  # whose credential the gateway uses
_CLIENT_PREFIXES = (b"openai-", b"x-ratelimit-", b"anthropic-")
_UPSTREAM_IDS = frozenset({b"x-request-id", b"request-id", b"x-amzn-requestid"})
_UPSTREAM_ID = b"x-gateway-upstream-request-id"  # what the provider's support asks for; x-request-id is the gateway's
_PROVIDER_PREFIXES = (*_CLIENT_PREFIXES, _UPSTREAM_ID)
_EVENTS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def for_upstream(headers: Iterable[tuple[bytes, bytes]], client_id: str | None, *, json: bool = False) -> Headers:
    """The headers an upstream may see. Never a credential, a cookie, a hop-by-hop header, or one not listed here.

    OpenAI-Organization and OpenAI-Project are not among them: they would choose the account that is billed for the
    gateway's credential. json: the body was read as JSON, and the upstream must read it as JSON too, whatever type the
    client declares: a form within a JSON text could name another model.
    """
    out, passing = ([JSON_TYPE], _WITH_JSON) if json else ([], _UPSTREAM)
    for header in headers:
        name = header[0]
        if name in passing or (name not in _OF_EVERY_REQUEST and name[:12] == b"x-stainless-"):
            out.append(header)
    if client_id is not None:
        out.append((b"x-request-id", client_id.encode()))
    return out


def may_reach_upstream(name: bytes) -> bool:
    """Whether for_upstream may return a header of this name (in lower case)."""
    return name in _UPSTREAM or name == b"x-request-id" or name.startswith(b"x-stainless-")


def for_client(headers: Headers, *, bedrock: bool = False) -> Headers:
    """The headers a client may see of an upstream's answer, without its processing time: the gateway sends its own.

    bedrock: for a client of Bedrock's own API, which gets AWS's frames as they are; others get events.
    Of the upstream's own ids of the request, the first one gets a name that distinguishes it from the gateway's.
    """
    out: Headers = []
    identified = False
    for header in headers:
        name = header[0]
        if name in _OF_THE_CONNECTION:
            continue
        if name in _CLIENT or (name.startswith(_CLIENT_PREFIXES) and name not in (_UPSTREAM_TIME, _UPSTREAM_ACCOUNT)):
            out.append(header)
            if name == b"content-type" and header != JSON_TYPE and header[1].startswith(STREAM_TYPES):
                if header[1][:1] == b"a" and not bedrock:
                    out[-1] = (name, b"text/event-stream")
                out += _EVENTS
        elif bedrock and name.startswith(_BEDROCK):
            out.append(header)
        elif name in _UPSTREAM_IDS and not identified:
            identified = True
            out.append((_UPSTREAM_ID, header[1]))
    return out


def without_provider(headers: Headers) -> Headers:
    """An upstream's headers, already filtered, without those that reveal the provider or the limits of its account."""
    return [header for header in headers if not header[0].startswith(_PROVIDER_PREFIXES)]


_CONDITIONS = frozenset(
    {b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"}
)
_CONTENT = frozenset({b"content-encoding", b"content-language", b"content-disposition"})  # of a request's body
_ENTITY = frozenset(
    {b"etag", b"last-modified", b"accept-ranges", b"content-range", b"content-encoding", b"cache-control", b"location"}
)


def for_passthrough(headers: Iterable[tuple[bytes, bytes]], passes: Iterable[str] = ()) -> Headers:
    """The headers an upstream may see of a request that is forwarded as it is: also conditions and ranges, and those
    that describe its body.

    passes: further names, of the upstream's `pass_headers`.
    """
    headers = list(headers)
    allowed = for_upstream(headers, None)
    further = _CONDITIONS | _CONTENT | {name.lower().encode() for name in passes}
    return [*allowed, *(h for h in headers if h[0] in further and h not in allowed)]


def from_passthrough(headers: Headers, base_url: str) -> Headers:
    """The headers a client may see of the answer: also those that describe the content and its location.

    A location below base_url, the upstream's, becomes the gateway's own path.
    """
    base = base_url.encode()
    described = [(n, b"/v1" + v[len(base) :] if v.startswith(base + b"/") else v) for n, v in headers if n in _ENTITY]
    return [*for_client(headers), *described]


def sane_id(value: bytes | None) -> str | None:
    """A client's own id, if it is 1 to 128 characters of printable ASCII; otherwise None."""
    if value is None or not 0 < len(value) <= 128:
        return None
    return None if value.translate(None, _VISIBLE) else value.decode("ascii")


_VISIBLE = bytes(range(33, 127))
