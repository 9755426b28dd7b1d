"""OpenAI's dialect, also spoken by most other providers: bytes pass unchanged except for what is spliced in.

Spliced into requests: `model`, and `stream_options.include_usage` if the client did not set it; where the config asks
for it also `cache_salt` and the `priority` of the caller's class; a client's higher priority is removed. Answers pass
unchanged.
"""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import urlsplit

import orjson

from gateway.config.upstreams import Upstream
from gateway.core.completion import billed_usage_of
from gateway.core.errors import GatewayError
from gateway.core.traffic_class import PRIORITIES
from gateway.proxy.dialects.event_reader import RawReader
from gateway.proxy.dialects.openai_reader import ChatReader, LastChunkReader, ResponsesReader
from gateway.proxy.dialects.plain_answer import AnswerTail, failed_response, read_answer, tail_usage
from gateway.proxy.dialects.types import PlainReply, Reader
from gateway.proxy.dialects.unsupported import unsupported_api
from gateway.proxy.http.client.transport import Slices, UpstreamRequest
from gateway.proxy.request.call import Api, Call
from gateway.proxy.request.decision_bodies import DECISION_PATHS
from gateway.proxy.request.endpoints import AT_ROOT, ENDPOINTS, OUTSIDE
from gateway.proxy.request.header_rules import may_reach_upstream
from gateway.proxy.request.json_members import ABOVE_SLICED, ABOVE_SMALL, Change, edited, read_members
from gateway.proxy.request.output_limit import default_name, output_limit
from gateway.proxy.request.vendor_paths import GEMINI_APIS, VENDOR_APIS
from gateway.proxy.types import Headers

_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
_ORCA: tuple[bytes, bytes] = (b"endpoint-load-metrics-format", b"JSON")
_MODEL_FIRST = re.compile(rb'[ \t\n\r]*+\{[ \t\n\r]*+"model"[ \t\n\r]*+:[ \t\n\r]*+')
_MOST_MODELS = 1000  # whose names are kept as JSON; behind a pattern there can be any number
_LAST_MEMBERS = {"llamacpp": "timings", "llamafile": "timings", "vllm": "system_fingerprint"}
"""The member of the last chunk of a stream, by kind."""
_NOT_JSON: frozenset[Api] = frozenset({"transcriptions", "translations", "speech", "passthrough"})
_CACHED: frozenset[Api] = frozenset({"chat", "completions", "responses"})
_PRIORITIZED: frozenset[Api] = frozenset({*_CACHED, "embeddings"})  # vLLM knows `priority` there
_DECISION_PATHS = frozenset(DECISION_PATHS.values())
_LISTS: frozenset[Api] = frozenset(
    {"rerank", "score", "classify", "pooling", "chat_batch"}
)  # some servers answer with a list


class OpenAI:
    """One upstream that speaks OpenAI's API."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.origin, self.prefix = split_base_url(upstream.url)
        self._root = self.prefix.removesuffix(b"/v1") if upstream.provider.local else self.prefix
        self._fixed = fixed_headers(upstream, self.credential(upstream.api_key) if upstream.api_key else None)
        self._fixed_names = frozenset(name for name, _ in self._fixed)
        self._replaces = any(map(may_reach_upstream, self._fixed_names))  # some of these may also come from a client
        self._model_json: dict[str, bytes] = {}
        self._decisions = upstream.provider.decisions_path.encode()
        self._paths = {path: self._below_prefix(path) for path in (*ENDPOINTS, *OUTSIDE)}
        self._passes = frozenset(name.lower().encode() for name in upstream.pass_headers) - self._fixed_names
        self._requests_load = (upstream.load or upstream.provider.load) == "orca"

    def credential(self, key: str) -> tuple[bytes, bytes]:
        return b"authorization", b"Bearer " + key.encode()

    def request(self, call: Call, model: str) -> UpstreamRequest:
        known = self._paths
        path = known[call.path] if call.path in known else self.path(call, model)
        headers = self.headers(call)
        if call.upload is not None:
            form = call.upload.with_model(model)
            return UpstreamRequest(call.method, self.origin, path, headers, form, form.length)
        return UpstreamRequest(call.method, self.origin, path, headers, self.body(call, model), stream=call.stream)

    def path(self, call: Call, model: str) -> bytes:
        """The path on the wire, where it is not known in advance. Raises BadRequest for an API of another vendor's."""
        refuse_vendor_api(call)
        return self._below_prefix(call.path)

    def _below_prefix(self, path: bytes) -> bytes:
        bare = path.partition(b"?")[0]
        if bare in OUTSIDE:
            return self.prefix.removesuffix(b"/v1") + path
        if self._decisions and bare in _DECISION_PATHS:
            return self.prefix.removesuffix(b"/v1") + self._decisions + path[len(bare) :]
        return (self._root if bare in AT_ROOT else self.prefix) + path

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        own = self._decisions and request.path in _DECISION_PATHS
        path = self._below_prefix(request.path) if own else self.below(request.path)
        headers = request.headers + self._fixed if own and not self._replaces else self._with_fixed(request.headers)
        return request.to(self.origin, path, headers)

    def below(self, path: bytes) -> bytes:
        """The path on the wire for `path` below the base URL."""
        return self.prefix + path

    def _with_fixed(self, headers: Headers) -> Headers:
        return [h for h in headers if h[0] not in self._fixed_names] + self._fixed

    def headers(self, call: Call) -> Headers:
        given = call.headers
        out = self._with_fixed(given) if self._replaces else given + self._fixed
        if call.passed and self._passes:
            out += [h for h in call.passed if h[0] in self._passes and h not in out]
        if not (out and out[0][0] == b"content-type") and not any(h[0] == b"content-type" for h in out):
            out.append(_JSON)
        if self._requests_load and not call.stream:
            out.append(_ORCA)
        return out

    def body(self, call: Call, model: str) -> bytes | Slices:
        names = self._model_json
        if model not in names:
            if len(names) >= _MOST_MODELS:
                names.clear()
            names[model] = orjson.dumps(model)
        changes: dict[str, Change] = {}
        if call.default_output is not None and not output_limit(call.api, call.fields):
            limit = default_name(call.api, self._upstream.kind)
            if limit is not None:
                changes[limit] = b"%d" % call.default_output
        if self._upstream.priority and (call.caller.traffic_class != "normal" or "priority" in call.fields):
            _prioritize(call, changes)
        if self._upstream.cache_salt and call.api in _CACHED:
            changes["cache_salt"] = cache_salt(call.caller.name)
        if call.stream and self._adds_usage(call):
            changes["stream_options"] = _with_usage(call) if "stream_options" in call.fields else _INCLUDE_USAGE
        body, members = call.body, call.members
        if not changes and members is not None and call.changes is None and not body[ABOVE_SMALL]:
            key = _MODEL_FIRST.match(body)
            if key is not None:  # as most requests: what follows takes three times as long
                start = key.end()
                end = start + len(members["model"])
                return body if body[start:end] == names[model] else body[:start] + names[model] + body[end:]
        changes = {"model": names[model], **changes}
        if members is None or call.changes is not None or body[ABOVE_SLICED]:
            return call.sent_with(changes)
        return edited(body, members, changes)

    def _adds_usage(self, call: Call) -> bool:
        return (
            call.stream
            and call.api in ("chat", "completions")
            and self._upstream.requests_usage
            and not call.asked_usage
        )  # fmt: skip

    def reader(self, call: Call, keep_text: bool) -> Reader:
        if call.api in ("chat", "completions"):
            drops, keep = self._adds_usage(call), keep_text and call.api == "chat"
            if drops and (member := _LAST_MEMBERS.get(self._upstream.kind)):
                return LastChunkReader(call, member, keep_text=keep)
            return ChatReader(call, drops_usage=drops, keep_text=keep)
        return ResponsesReader() if call.api == "responses" else RawReader(AnswerTail())

    def answer(self, call: Call, body: bytes) -> PlainReply:
        if call.api in _NOT_JSON:
            return PlainReply(body, tail_usage(body))
        if call.api == "responses":
            return _response(body)
        if call.api in DECISION_PATHS and b'"cost"' in body:
            return PlainReply(body, read_answer(body, read_usage=billed_usage_of))
        return PlainReply(body, read_answer(body, lists=call.api in _LISTS))

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return body

    def broken(self, call: Call, error: GatewayError) -> bytes:
        if call.api != "responses":
            return b"\n\ndata: " + error.body() + b"\n\n"
        return response_error_event(error)


def refuse_vendor_api(call: Call) -> None:
    """Raises BadRequest for a call of Gemini's or Bedrock's own clients."""
    if call.api in VENDOR_APIS:
        vendor, kinds = ("Gemini's", "gemini_native") if call.api in GEMINI_APIS else ("Bedrock's", "bedrock_converse")
        raise unsupported_api(
            f"the upstream of {call.alias!r} does not have {vendor} own API, which upstreams of kind {kinds} have; use "
            "/v1/chat/completions, or another model"
        )


def response_error_event(error: GatewayError) -> bytes:
    """The bytes that end a broken stream of the Responses API."""
    event = {
        "type": "error",
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "sequence_number": 0,
    }
    return b"\n\nevent: error\ndata: " + orjson.dumps(event) + b"\n\n"


def _response(body: bytes) -> PlainReply:
    """Accepts a Response that failed as an answer: another attempt could get the same. Raises ValueError."""
    if body.find(b'"failed"') < 0:
        try:
            return PlainReply(body, read_answer(body))
        except ValueError:
            if failed_response(body) is None:
                raise
    source = failed_response(body)
    return PlainReply(body, tail_usage(body) if source else read_answer(body), source)


def _prioritize(call: Call, changes: dict[str, Change]) -> None:
    """Sets the priority of the caller's class. A client may ask for a lower priority than others of its class, but not
    for a higher one."""
    own, sent = PRIORITIES[call.caller.traffic_class], call.fields.get("priority")
    if isinstance(sent, int) and not isinstance(sent, bool) and sent >= own:
        return
    if own and call.api in _PRIORITIZED:
        changes["priority"] = b"%d" % own
    elif "priority" in call.fields:
        changes["priority"] = None


_INCLUDE_USAGE = b'{"include_usage":true}'


def _with_usage(call: Call) -> bytes:
    """`stream_options` with `include_usage`, and with the client's other members. A value that is neither an object nor
    null stays: the upstream will refuse it."""
    given = bytes(call.slices()["stream_options"])
    if given == b"null":
        return _INCLUDE_USAGE
    return edited(given, read_members(given), {"include_usage": b"true"}) if given[:1] == b"{" else given


def cache_salt(caller: str) -> bytes:
    """A JSON text that differs by caller, and is the same in every gateway. It need not be secret: no caller can send
    one of its own."""
    return b'"%b"' % sha256(b"cache_salt\0" + caller.encode()).hexdigest().encode()


def split_base_url(url: str) -> tuple[str, bytes]:
    """A base URL's origin, and its path without a trailing slash."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}", parts.path.rstrip("/").encode()


def fixed_headers(upstream: Upstream, credential: tuple[bytes, bytes] | None) -> Headers:
    """The headers of every request to this upstream. `headers` in the config take precedence over the defaults."""
    configured = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in upstream.headers.items()]
    named = {name for name, _ in configured}
    defaults = [(b"accept-encoding", b"identity"), *([credential] if credential else [])]
    return [*(h for h in defaults if h[0] not in named), *configured]
