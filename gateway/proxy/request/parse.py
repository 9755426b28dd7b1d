"""Parses one HTTP request into a `Call` and its `RequestOptions`, and reports every error of the request itself."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder

from gateway.core.errors import BadRequest, NotAllowed, UnsupportedEncoding
from gateway.core.exchange import new_id
from gateway.core.output_tokens import OUTPUT_LIMITS
from gateway.proxy.request.call import NO_OPTIONS, Api, Call, Caller, RequestOptions
from gateway.proxy.request.decision_bodies import DECISION_PATHS, decision_api
from gateway.proxy.request.decompression import encoding_of
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.request.header_rules import for_upstream, sane_id
from gateway.proxy.request.json_members import ABOVE_SMALL, TYPES, Members, NotAnObject, read_members
from gateway.proxy.request.output_limit import NUMBERS, checked_numbers
from gateway.proxy.request.run_ids import RUN_HEADERS, run_of
from gateway.proxy.request.upload import Upload
from gateway.proxy.request.vendor_paths import check_key_in_query
from gateway.proxy.types import Headers, HttpRequest

_MOST_DECODED_BYTES = 1 << 16
_EMPTY_BYTES = 16  # only whether the value is null or empty is read
_CHECKED_BYTES = 1 << 16  # of messages that are checked one by one; of more, the first is


class _Message(Struct):
    """A JSON object of which nothing is decoded."""


_decode = Decoder().decode
_check_objects = Decoder(list[_Message]).decode
_FIRST_ITEM = re.compile(rb"\[[ \t\n\r]*+(.)", re.S)


def read_call(
    endpoint: Endpoint,
    caller: Caller,
    request: HttpRequest,
    body: bytes,
    started: float,
    upload: Upload | None = None,
) -> Call:
    """Raises BadRequest for members that the gateway itself must understand; the upstream validates the rest.

    upload: a form that was read up to its model; then `body` is empty.
    """
    api, path = endpoint.api, endpoint.path or request.path.removeprefix(b"/v1")
    if upload is not None:
        members: Members | None = None
        fields: dict[str, Any] = {}
        alias, stream = upload.alias, upload.stream
    else:
        try:
            members, fields = read_object(body)
        except BadRequest:
            _check_encoding(request.headers)
            raise
        numbered = not _WITHOUT_NUMBERS.issuperset(fields)
        if numbered and not _UNAMBIGUOUS.issuperset(fields):
            _check_names(fields, caller)
        if endpoint.deployment is not None:
            fields["model"] = endpoint.deployment
        _check(fields, members, endpoint, caller)
        if numbered:
            _check_numbers(fields, api)
        if endpoint.decides:
            api = decision_api(members, fields)
            path = DECISION_PATHS[api]
        alias = fields["model"]
        stream = "stream" in fields and fields["stream"] is True if endpoint.streams is None else endpoint.streams
    headers = request.fields
    client_id = conversation = reference = user = run = None
    identified = not _IDENTIFYING.isdisjoint(headers)
    if identified:
        client_id = sane_id(headers.get(b"x-request-id"))
        user = sane_id(headers.get(b"x-gateway-user"))
        conversation = sane_id(headers.get(b"x-gateway-conversation"))
        reference = _reference(headers)
    if conversation is None and "metadata" in fields:
        conversation = _conversation(fields["metadata"])
    if identified or endpoint.run_sources or "metadata" in fields:
        run = run_of(caller, headers, fields, conversation, endpoint.run_sources)
    if endpoint.tags is not None:
        caller = endpoint.tags.tagged(caller, headers, fields)
    query = request.query
    if query:
        _check_query(query)
        if endpoint.errors == "gemini":
            check_key_in_query(query)
        query = _without_version(query)
        path = path + b"?" + query if query else path
    forwarded = for_upstream(request.headers, client_id, json=upload is None)
    if b"idempotency-key" in headers:
        forwarded = [(n, _of_caller(v, caller) if n == b"idempotency-key" else v) for n, v in forwarded]
    passed = [h for h in request.headers if h[0] in endpoint.passes] if endpoint.passes else []
    now_ns = time.time_ns()
    return Call(  # positional: keywords would cost a tenth of this function
        new_id(now_ns), now_ns / 1e9, started, caller, api, request.method, path, alias, stream, body, fields,
        forwarded, client_id, conversation, reference, user, upload, passed, members, run=run,
    )  # fmt: skip


def _check_encoding(headers: Headers) -> None:
    """Raises UnsupportedEncoding if the body was read without being decompressed."""
    encoding = dict(headers).get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.strip().lower() != "identity" and encoding_of(headers) is None:
        raise UnsupportedEncoding(
            f"the request body is encoded ({encoding[:50]}); send it with gzip or zstd, or without content-encoding",
            retry=False,
        )


def _of_caller(idempotency_key: bytes, caller: Caller) -> bytes:
    """The key in a namespace of the caller: all callers share the upstream's account, and one must not get the answer
    to another one's request."""
    return sha256(caller.name.encode() + b"\0" + idempotency_key).hexdigest().encode()


def _check_query(query: bytes) -> None:
    """Refuses a model in the query, which some upstreams prefer to the body's: keys[].models limits the body's."""
    names = {unquote_to_bytes(part.partition(b"=")[0]).lower().strip() for part in re.split(b"[&;]", query)}
    if b"model" in names:
        raise BadRequest("the query has a parameter `model`; send it in the body", param="model")


def _without_version(query: bytes) -> bytes:
    """The query without the version of Azure's API that its clients send: the one that an upstream gets is the config's
    `api_version`."""
    return b"&".join(part for part in query.split(b"&") if not part.lower().startswith(b"api-version="))


def read_object(body: bytes) -> tuple[Members, dict[str, Any]]:
    """The members of a JSON object as slices, and as the fields of a Call. Raises BadRequest."""
    if not body:
        raise BadRequest("the request has no body; a JSON object was expected")
    try:
        members = read_members(body)
        fields: dict[str, Any] = dict.fromkeys(members, ...)
        small = not body[ABOVE_SMALL]
        for name in members:
            if name in _MOST_DECODED and (small or len(members[name]) <= _MOST_DECODED[name]):
                fields[name] = _decode(members[name])
    except NotAnObject as error:
        raise BadRequest(f"the request body must be a JSON object, not {error.found}") from None
    except ValueError as error:
        raise BadRequest(_why_not_json(body, error)) from None
    return members, fields


_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*+"  # what follows an even number of backslashes is an escape
    rb"(?P<half>\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F][0-9a-fA-F]{2}))"
)
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


def _why_not_json(body: bytes, error: ValueError) -> str:
    """The reason why a body cannot be read. Half of a surrogate pair is what remains of a character that was cut, often
    by a client that counts UTF-16 units."""
    half = _LONE_SURROGATE.search(_PAIR.sub(b" " * 12, body))
    if half is None:
        return f"the request body is not valid JSON: {error}"
    at = f"({half['half'].decode()}, at byte {half.start('half')})"
    return f"the request body is not valid JSON: half of a surrogate pair {at}; send the whole, or U+FFFD in its place"


_MOST_DECODED: Mapping[str, int] = {
    **dict.fromkeys(
        (
            "stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key",
            "previous_response_id", "conversation", "container", "thread", "prompt", "response_format", "logprobs",
            "audio", "priority", "store", "background", "plugins", "search_parameters", "mcp_servers",
            "web_search_options", "extra_body", *NUMBERS,
        ),
        _MOST_DECODED_BYTES,
    ),
    "model": 1 << 20,  # of a name that long the error is that it does not exist
    **dict.fromkeys(("tools", "functions", "input", "state", "query", "documents", "prompt_embeds"), _EMPTY_BYTES),
}  # fmt: skip
"""The members that are decoded for the fields of a Call, with their maximum sizes; in a small body all of these are."""

_ACTED_ON = frozenset({
    "model", "stream", "stream_options", "messages", "prompt", "input", "n", "user", "metadata", "conversation",
    "previous_response_id", "prompt_cache_key", "store", "background", "plugins", "search_parameters",
    "web_search_options", "tools", "functions", "logprobs", "audio", "response_format", "seed", "priority",
    "query", "documents", *OUTPUT_LIMITS, "system",
    "continue_final_message", "add_generation_prompt", "cache_salt",
})  # fmt: skip
"""The top-level members that the gateway reads, replaces or adds."""

_UNAMBIGUOUS = _ACTED_ON | frozenset({
    "temperature", "top_p", "top_k", "min_p", "stop", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "logit_bias", "top_logprobs", "tool_choice", "parallel_tool_calls",
    "reasoning_effort", "reasoning", "instructions", "text", "truncation", "include", "service_tier",
    "stop_sequences", "thinking", "suffix", "echo", "best_of", "encoding_format", "dimensions", "modalities",
    "prediction", "verbosity", "safety_identifier", "chat_template_kwargs", "voice", "size",
    "quality", "text_1", "text_2", "tokens", "top_n", "questions", "state",
})  # fmt: skip
"""Usual members, so that most requests need no closer look."""
_WITHOUT_NUMBERS = _UNAMBIGUOUS - NUMBERS


_ROUTED = frozenset({"models", "route", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks"})
"""Members by which upstreams such as OpenRouter and LiteLLM answer with other models than the one that is named."""
_ROUTED_NESTED = _ROUTED | {"model"}
"""An upstream that merges `extra_body` into the request would use a model there instead of the authorized one."""


def _check_names(fields: dict[str, Any], caller: Caller) -> None:
    """Refuses members that name further models, and one that is in _ACTED_ON only when case is ignored.

    Go's encoding/json ignores it, the last member wins, and by its folding U+017F is an s and U+212A a k: such an
    upstream would read another model than the one that was authorized.
    """
    if caller.models is not None:
        _check_routing(fields)
    for name in fields:
        if name not in _UNAMBIGUOUS and (meant := name.upper().casefold()) in _ACTED_ON:
            raise BadRequest(
                f'the request body has a member "{name}", which some upstreams read as "{meant}"; write "{meant}"',
                param=name,
            )


def _check_routing(fields: dict[str, Any]) -> None:
    """Raises NotAllowed where the request of a key with a list of models names others: the upstream's names do not show
    which models the key may use."""
    nested = fields.get("extra_body")
    if nested is ...:
        raise BadRequest("extra_body is larger than 64 KB", param="extra_body")
    members = [(name, name, _ROUTED) for name in fields]
    members += [(f"extra_body.{name}", name, _ROUTED_NESTED) for name in nested] if isinstance(nested, dict) else []
    for path, name, routed in members:
        if name.upper().casefold() in routed:
            raise NotAllowed(
                f"this key is limited to some models, so its requests cannot have `{path}`, by which the upstream may "
                "answer with others; name one model in `model`",
                param=path,
                retry=False,
            )


def _check(fields: dict[str, Any], members: Members, endpoint: Endpoint, caller: Caller) -> None:
    """Raises BadRequest."""
    if "model" not in fields or fields["model"] is None:
        fields["model"] = _default(endpoint, caller)
    model = fields["model"]
    if type(model) is not str or not model:
        raise BadRequest(f"model must be a non-empty string, not {_json_type(model)}", param="model")
    if "stream" in fields and type(stream := fields["stream"]) is not bool and stream is not None:
        raise BadRequest(f"stream must be true or false, not {_json_type(stream)}", param="stream")
    for name in endpoint.required:
        given = name in fields and fields[name] is not None
        if not given and all(_is_null(members.get(other)) for other in endpoint.instead):
            raise _missing(name)
    if "input" in members and endpoint.takes_items:
        _check_input(members["input"])
    if "messages" in endpoint.required:
        messages = members["messages"]
        try:
            if len(messages) > _CHECKED_BYTES and (first := _FIRST_ITEM.match(messages)) and first[1] == b"{":
                return
            if not _check_objects(messages):
                raise BadRequest("messages must not be empty", param="messages")
        except ValidationError as error:
            raise _bad_messages(str(error)) from None


def _check_input(value: Raw) -> None:
    """Raises BadRequest for what no server takes; some answer as if there was no input."""
    first = bytes(memoryview(value)[:1])
    if first not in _INPUTS:
        found = _NAMES_BY_FIRST.get(first, "a number")
        raise BadRequest(f"input must be a string or an array, not {found}", param="input")


_INPUTS = frozenset({b'"', b"[", b"n"})
_NAMES_BY_FIRST = {b"{": "an object", b"t": "a boolean", b"f": "a boolean"}


def _is_null(value: Raw | None) -> bool:
    return value is None or bytes(memoryview(value)[:4]) == b"null"


def _check_numbers(fields: dict[str, Any], api: Api) -> None:
    for name in fields:
        if name in NUMBERS and type(fields[name]) is not int:
            checked_numbers(fields, api)
            return


def _default(endpoint: Endpoint, caller: Caller) -> str:
    """The model of a request that names none; the dialect adds it to the body."""
    default = endpoint.default
    if default is None and endpoint.only_model is not None:
        default = endpoint.only_model(caller)
    if default is None:
        raise BadRequest(
            "you must provide a model parameter; for requests that name none, `defaults` in gateway.yaml names it",
            param="model",
            code="missing_required_parameter",
        )
    return default


def _bad_messages(error: str) -> BadRequest:
    """error: msgspec's: "Expected `object`, got `str` - at `$[1]`"."""
    given = error.partition("got `")[2].partition("`")[0]
    index, found = error.partition("$[")[2].partition("]")[0], TYPES.get(given, "a number")
    if index:
        return BadRequest(f"messages[{index}] must be an object, not {found}", param=f"messages[{index}]")
    if given == "null":
        return _missing("messages")
    return BadRequest(f"messages must be an array, not {found}", param="messages")


def _missing(name: str) -> BadRequest:
    return BadRequest(f"missing required parameter: {name}", param=name, code="missing_required_parameter")


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    if value is ...:
        return "so large a value"
    return names.get(type(value), "a number")


def _conversation(metadata: Any) -> str | None:
    named = metadata.get("conversation_id") if isinstance(metadata, dict) else None
    return named[:256] if isinstance(named, str) and named else None


def _reference(headers: Mapping[bytes, bytes]) -> str | None:
    """The header is percent-encoded UTF-8, because header values are single lines of ASCII."""
    given = headers.get(b"x-gateway-reference")
    return unquote_to_bytes(given).decode("utf-8", "replace") or None if given else None


_IDENTIFYING = RUN_HEADERS | {b"x-request-id", b"x-gateway-user", b"x-gateway-conversation", b"x-gateway-reference"}
_OPTION_HEADERS = frozenset({b"x-gateway-sample", b"x-gateway-target", b"x-gateway-timeout-s", b"x-gateway-scorer"})


def read_options(headers: Mapping[bytes, bytes], caller: Caller) -> RequestOptions:
    """The options in the x-gateway-* headers. Raises BadRequest for a value that is not valid."""
    if _OPTION_HEADERS.isdisjoint(headers):
        return NO_OPTIONS
    sample = headers.get(b"x-gateway-sample", b"").decode("latin-1") or None
    if sample not in (None, "always", "never"):
        raise BadRequest(f'x-gateway-sample: expected "always" or "never", got "{sample[:100]}"')
    if "sample" not in caller.allow:
        sample = None
    target = headers.get(b"x-gateway-target", b"").decode("latin-1") or None
    scorer = unquote_to_bytes(headers.get(b"x-gateway-scorer", b"")).decode("utf-8", "replace")[:200]
    return RequestOptions(target, sample, _seconds(headers.get(b"x-gateway-timeout-s")), scorer or None)


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise BadRequest("x-gateway-timeout-s: expected a positive number of seconds")
    return seconds
