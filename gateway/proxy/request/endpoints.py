"""Which path is which API: the table of what is routed by model."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.proxy.request.call import Api


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One routed path. operation: its `gen_ai.operation.name`. carries_text: recorded for evaluation. form: how the
    request is read. required: members that must be there, checked here because some servers invent an answer instead.
    json_answer: a plain answer is one JSON object, held until it is whole; else its bytes pass as they come.
    """

    api: Api
    operation: str
    carries_text: bool = False
    form: str = "json"
    required: tuple[str, ...] = ()
    json_answer: bool = True


ENDPOINTS: dict[bytes, Endpoint] = {
    b"/chat/completions": Endpoint("chat", "chat", True, required=("messages",)),
    b"/completions": Endpoint("completions", "text_completion", True, required=("prompt",)),
    b"/embeddings": Endpoint("embeddings", "embeddings", required=("input",)),
    b"/responses": Endpoint("responses", "chat", True),
    b"/messages": Endpoint("messages", "chat", True, required=("messages",)),
    b"/messages/count_tokens": Endpoint("count_tokens", "count_tokens", required=("messages",)),
    b"/moderations": Endpoint("moderations", "moderations", required=("input",)),
    b"/rerank": Endpoint("rerank", "rerank", required=("query", "documents")),
    b"/score": Endpoint("score", "score"),
    b"/classify": Endpoint("classify", "classify"),
    b"/pooling": Endpoint("pooling", "pooling"),
    b"/tokenize": Endpoint("tokenize", "tokenize"),
    b"/detokenize": Endpoint("detokenize", "detokenize"),
    b"/audio/transcriptions": Endpoint("transcriptions", "transcriptions", form="multipart", json_answer=False),
    b"/audio/translations": Endpoint("translations", "translations", form="multipart", json_answer=False),
    b"/audio/speech": Endpoint("speech", "speech", required=("input",), json_answer=False),
    b"/images/generations": Endpoint("images", "image_generation", required=("prompt",)),
    b"/images/edits": Endpoint("images", "image_generation", form="multipart"),
}
"""By path below /v1."""

AT_ROOT = frozenset({b"/tokenize", b"/detokenize", b"/score", b"/rerank", b"/classify", b"/pooling"})
"""Paths that vLLM's clients also call without /v1; upstreams get them at the root."""
