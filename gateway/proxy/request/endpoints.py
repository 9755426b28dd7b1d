"""The endpoints that are routed by model: path → API, and their differences on the hot path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from gateway.core.errors import BadRequest, ErrorShape
from gateway.core.run_history import HISTORY
from gateway.proxy.request.call import Api, Caller
from gateway.proxy.request.decompression import decompressed_body
from gateway.proxy.request.tags import TagReader
from gateway.proxy.request.upload import Upload, UploadRequest, begin_upload
from gateway.proxy.request.vendor_paths import BEDROCK_PATH, GEMINI_PATH
from gateway.proxy.types import HttpRequest

BodyReader = Callable[[HttpRequest, int], Awaitable[tuple[HttpRequest, bytes, Upload | None]]]
"""(request, limit in bytes) → the request to watch from now on, and its body: complete, or a form that still arrives.

Raises BadRequest, TooLarge and ClientGone.
"""


async def read_json(request: HttpRequest, limit_bytes: int) -> tuple[HttpRequest, bytes, Upload | None]:
    if b"content-encoding" in request.fields:
        return request, await decompressed_body(request, limit_bytes), None
    return request, await request.body(limit_bytes), None


async def read_form(
    request: HttpRequest, limit_bytes: int, default: str | None = None
) -> tuple[HttpRequest, bytes, Upload | None]:
    """Reads a form as far as its model; the upstream gets the rest as it arrives. default: the model of a form that
    names none, which is read to its end first."""
    if _says_json(request):
        raise BadRequest("this path takes a form (content-type multipart/form-data), not JSON")
    if sum(name == b"content-type" for name, _ in request.headers) > 1:
        raise BadRequest("the request has more than one content-type")
    upload = await begin_upload(request.receive, request.fields, limit_bytes, default)
    return UploadRequest(request, upload), b"", upload


async def read_form_or_json(
    request: HttpRequest, limit_bytes: int, default: str | None = None
) -> tuple[HttpRequest, bytes, Upload | None]:
    """Reads a form or JSON, by the content-type. default: the model of a form that names none."""
    if _says_json(request):
        return await read_json(request, limit_bytes)
    return await read_form(request, limit_bytes, default)


def _says_json(request: HttpRequest) -> bool:
    return request.fields.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path that is routed by model."""

    api: Api
    operation: str
    """`gen_ai.operation.name` of its metrics and spans."""
    carries_text: bool = False
    """Whether its exchanges are recorded for evaluation."""
    default: str | None = None
    """The model of a request that names none (`defaults`); None means that such a request is refused."""
    only_model: Callable[[Caller], str | None] | None = None
    """The only model that a caller may use, for a request that names none (`defaults: auto`); None if not
    configured.
    """
    read: BodyReader = read_json
    """Reads the request body."""
    required: tuple[str, ...] = ()
    """Required members. Checked here because some servers answer without them instead of refusing."""
    instead: tuple[str, ...] = ()
    """Members of which one may replace the required ones: vLLM's own forms."""
    json_answer: bool = True
    """A plain answer is one JSON object and is held until it is complete; otherwise its bytes pass as they arrive."""
    stateful: bool = False
    """The upstream keeps its answers: a call that continues one must go to the same upstream."""
    takes_items: bool = False
    """Whether its `input` is a text or a list of items."""
    owned: frozenset[str] = frozenset()
    """Members that may name an upstream's stored state, which belongs to the key that used it first."""
    names_files: bool = False
    """Files, vector stores and prompts that it names may have an owner (`responses.files`, `passthrough`)."""
    deployment: str | None = None
    """The model that the path names, as Azure's paths do; it wins over the body's."""
    path: bytes = b""
    """Path below /v1; b"": that of the request."""
    passes: frozenset[bytes] = frozenset()
    """Additional request headers that some upstreams get (`upstreams.NAME.pass_headers`)."""
    run_sources: tuple[str, ...] = ()
    """Additional sources of a run's id (`runs.from`)."""
    tags: TagReader | None = None
    """Reads the tags of its calls; None if no key of a tag is configured (`tags.keys`)."""
    streams: bool | None = None
    """Whether its answers are streams, where the path says so; None if the body does."""
    errors: ErrorShape = "openai"
    """The shape of its errors."""
    decides: bool = False
    """Whether its body says which of the APIs of decisions it is, and with it the path of the upstream."""
    names_state: bool = field(init=False)
    """Whether its requests may name what an upstream stores, in members other than `container`, or continue a call."""

    def __post_init__(self) -> None:
        named = bool(self.stateful or self.owned or self.names_files or HISTORY in self.run_sources)
        object.__setattr__(self, "names_state", named)


_STATE = frozenset({"conversation", "container", "tools", "thread"})

ENDPOINTS: dict[bytes, Endpoint] = {
    b"/chat/completions": Endpoint("chat", "chat", True, required=("messages",)),
    b"/completions": Endpoint("completions", "text_completion", True, required=("prompt",), instead=("prompt_embeds",)),
    b"/chat/completions/batch": Endpoint("chat_batch", "chat"),
    b"/embeddings": Endpoint("embeddings", "embeddings", required=("input",), instead=("messages",)),
    b"/responses": Endpoint("responses", "chat", True, stateful=True, takes_items=True, owned=_STATE),
    b"/responses/compact": Endpoint("compact", "compact", stateful=True, takes_items=True, owned=_STATE),
    b"/responses/input_tokens": Endpoint("input_tokens", "count_tokens", stateful=True, takes_items=True, owned=_STATE),
    b"/messages": Endpoint("messages", "chat", True, required=("messages",), errors="anthropic", owned=_STATE),
    b"/messages/count_tokens": Endpoint("count_tokens", "count_tokens", required=("messages",), errors="anthropic"),
    b"/moderations": Endpoint("moderations", "moderations", required=("input",)),
    b"/rerank": Endpoint("rerank", "rerank", required=("query", "documents")),
    b"/score": Endpoint("score", "score"),
    b"/classify": Endpoint("classify", "classify"),
    b"/pooling": Endpoint("pooling", "pooling"),
    b"/tokenize": Endpoint("tokenize", "tokenize"),
    b"/detokenize": Endpoint("detokenize", "detokenize"),
    b"/audio/transcriptions": Endpoint("transcriptions", "transcriptions", read=read_form, json_answer=False),
    b"/audio/translations": Endpoint("translations", "translations", read=read_form, json_answer=False),
    b"/audio/speech": Endpoint("speech", "speech", required=("input",), json_answer=False),
    b"/decisions": Endpoint("decisions", "decision", True, streams=False, decides=True),
    b"/systemone": Endpoint("systemone", "decision", True, streams=False, decides=True, errors="systemone"),
    b"/images/generations": Endpoint("images", "image_generation", required=("prompt",)),
    b"/images/edits": Endpoint("images", "image_generation", read=read_form_or_json),
}
"""Endpoints by path below /v1."""

OUTSIDE: dict[bytes, Endpoint] = {
    b"/v2/rerank": ENDPOINTS[b"/rerank"],
    b"/v2/embed": Endpoint("embeddings", "embeddings"),
    b"/inference/v1/generate": Endpoint("generate", "text_completion"),
}
"""Paths of vLLM and Cohere that are not below /v1. All upstreams receive them at the root."""

AT_ROOT = frozenset({b"/tokenize", b"/detokenize", b"/score", b"/rerank", b"/classify", b"/pooling"})
"""Paths that vLLM's clients also call without /v1; local upstreams receive them at the root."""

_GUARDRAILS = frozenset(
    b"x-amzn-bedrock-" + name
    for name in (b"trace", b"guardrailidentifier", b"guardrailversion", b"performanceconfig-latency", b"service-tier")
)
"""Headers of InvokeModel; Converse has them in its body."""
_CONTENT = Endpoint(
    "generate_content", "generate_content", True, required=("contents",), streams=False, errors="gemini"
)
_CONVERSE = Endpoint("converse", "chat", True, streams=False, errors="bedrock")
_INVOKE = Endpoint("invoke_model", "chat", True, streams=False, errors="bedrock", passes=_GUARDRAILS)

VENDORS: dict[bytes, Endpoint] = {
    GEMINI_PATH + b":generateContent": _CONTENT,
    GEMINI_PATH + b":streamGenerateContent": replace(_CONTENT, streams=True),
    GEMINI_PATH + b":countTokens": Endpoint("gemini_count_tokens", "count_tokens", streams=False, errors="gemini"),
    BEDROCK_PATH + b"/converse": _CONVERSE,
    BEDROCK_PATH + b"/converse-stream": replace(_CONVERSE, streams=True),
    BEDROCK_PATH + b"/invoke": _INVOKE,
    BEDROCK_PATH + b"/invoke-with-response-stream": replace(_INVOKE, streams=True),
    BEDROCK_PATH + b"/count-tokens": Endpoint("bedrock_count_tokens", "count_tokens", streams=False, errors="bedrock"),
}
"""Paths of Gemini's and of Bedrock's own clients, with a place for the model that they name (vendor_paths.py)."""
