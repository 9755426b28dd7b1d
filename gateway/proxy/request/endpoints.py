"""The endpoints that are routed by model: path → API."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.proxy.request.call import Api


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path that is routed by model."""

    api: Api
    operation: str
    """`gen_ai.operation.name` of its metrics and spans."""
    carries_text: bool = False
    """Its exchanges are recorded for evaluation."""
    form: str = "json"
    """How the request body is read: "json" or "multipart"."""
    required: tuple[str, ...] = ()
    """Required members. Checked here because some servers answer without them instead of refusing."""
    json_answer: bool = True
    """A plain answer is one JSON object and is held until it is complete; otherwise its bytes pass as they arrive."""


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
"""Paths that vLLM's clients also call without /v1; local upstreams receive them at the root."""
