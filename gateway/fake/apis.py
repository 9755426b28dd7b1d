"""The routes: which API answers a path, and the fields that it requires. The APIs are in modules of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from gateway.fake.answers import Dialect, FakeAnswer, FakeRequest, error
from gateway.fake.chat import chat, completions
from gateway.fake.messages import count_tokens, messages
from gateway.fake.responses import responses
from gateway.fake.small import (
    detokenize,
    echo,
    embeddings,
    health,
    images,
    metrics,
    models,
    moderations,
    rerank,
    score,
    speech_audio,
    tokenize,
    transcription,
)


def correct_answer(ask: FakeRequest) -> FakeAnswer:
    """The correct answer to this request: for an unknown path, or fields of the wrong type, the correct error."""
    api = _APIS.get((ask.method, ask.path)) or next((a for p, a in _PREFIXES if ask.path.startswith(p)), None)
    if api is None:
        return error("openai", 404, f"the fake upstream has no {ask.method} {ask.path}", code="not_found")
    missing = [field for field in _REQUIRED.get(ask.path, ()) if field not in ask.fields]
    if missing:
        return error(
            dialect_of(ask.path),
            400,
            f"the body must be a JSON object with {missing[0]!r}",
            param=missing[0],
        )
    try:
        return api(ask)
    except (AttributeError, KeyError, TypeError, ValueError) as wrong:
        return error(dialect_of(ask.path), 400, f"a field has the wrong type: {wrong!r}")


def dialect_of(path: str) -> Dialect:
    """The dialect of the API at this path, which has no /v1."""
    return "anthropic" if path.startswith("/messages") else "responses" if path == "/responses" else "openai"


_VERSIONED = re.compile(r"/(?:openai/)?(?:v1|v2|deployments/[^/]+)(?=/)")
_AT_THE_ROOT = {"/health", "/metrics", "/tokenize", "/detokenize", "/rerank", "/score"}


def api_path(path: str) -> str:
    """The path without its version or Azure's deployment. A path that lacks the version it needs matches no API."""
    versioned = _VERSIONED.match(path)
    if versioned:
        return path[versioned.end() :]
    return path if path in _AT_THE_ROOT else f"(no /v1){path}"


_APIS: Mapping[tuple[str, str], Callable[[FakeRequest], FakeAnswer]] = {
    ("POST", "/chat/completions"): chat,
    ("POST", "/completions"): completions,
    ("POST", "/responses"): responses,
    ("POST", "/messages"): messages,
    ("POST", "/messages/count_tokens"): count_tokens,
    ("POST", "/embeddings"): embeddings,
    ("POST", "/moderations"): moderations,
    ("POST", "/rerank"): rerank,
    ("POST", "/score"): score,
    ("POST", "/tokenize"): tokenize,
    ("POST", "/detokenize"): detokenize,
    ("POST", "/audio/transcriptions"): transcription,
    ("POST", "/audio/translations"): transcription,
    ("POST", "/audio/speech"): speech_audio,
    ("POST", "/images/generations"): images,
    ("GET", "/models"): models,
    ("GET", "/health"): health,
    ("GET", "/metrics"): metrics,
}
_PREFIXES: Sequence[tuple[str, Callable[[FakeRequest], FakeAnswer]]] = (
    ("/models/", models),
    ("/files", echo),
    ("/batches", echo),
    ("/uploads", echo),
)
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "/chat/completions": ("messages",),
    "/completions": ("prompt",),
    "/responses": ("input",),
    "/messages": ("messages",),
    "/messages/count_tokens": ("messages",),
    "/embeddings": ("input",),
    "/moderations": ("input",),
    "/rerank": ("query", "documents"),
    "/score": ("text_1", "text_2"),
    "/detokenize": ("tokens",),
}
