"""The answers of the APIs that never stream, such as embeddings, audio, files, models and load."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import zlib
from array import array
from typing import Any

import orjson

from gateway.fake.answers import CREATED, FakeAnswer, FakeRequest, error
from gateway.fake.speech import count_words, text_of


def _json(value: Any) -> FakeAnswer:
    return FakeAnswer(orjson.dumps(value))


def vector(text: str, dimensions: int = 64) -> list[float]:
    """A unit vector of the text's words: texts that share words have similar vectors. All zeros without words."""
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        mark = zlib.crc32(word.encode())
        values[(mark >> 1) % dimensions] += 1.0 if mark & 1 else -1.0
    norm = math.sqrt(sum(v * v for v in values)) or 1.0
    return [v / norm for v in values]


def _similarity(a: str, b: str) -> float:
    return sum(x * y for x, y in zip(vector(a), vector(b), strict=True))


def embeddings(ask: FakeRequest) -> FakeAnswer:
    given = ask.fields["input"]
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    vectors = [vector(str(t), int(ask.fields.get("dimensions") or 64)) for t in texts]
    packed = ask.fields.get("encoding_format") == "base64"
    encoded = [base64.b64encode(array("f", v).tobytes()).decode() for v in vectors] if packed else vectors
    items = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(encoded)]
    usage = {"prompt_tokens": count_words(given), "total_tokens": count_words(given)}
    return _json({"object": "list", "data": items, "model": ask.model, "usage": usage})


def moderations(ask: FakeRequest) -> FakeAnswer:
    given = ask.fields["input"]
    texts = given if isinstance(given, list) else [given]
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0}}
    return _json({"id": f"modr-fake-{ask.serial}", "model": ask.model, "results": [result for _ in texts]})


def _document(value: Any) -> str:
    return str(value.get("text", "")) if isinstance(value, dict) else str(value)


def rerank(ask: FakeRequest) -> FakeAnswer:
    query, documents = str(ask.fields["query"]), [_document(d) for d in ask.fields["documents"]]
    scored = sorted(((_similarity(query, d), -i) for i, d in enumerate(documents)), reverse=True)
    results = [{"index": -i, "document": {"text": documents[-i]}, "relevance_score": s} for s, i in scored]
    usage = {"total_tokens": count_words(query) + count_words(documents)}
    kept = results[: ask.fields.get("top_n") or None]
    return _json({"id": f"rerank-fake-{ask.serial}", "model": ask.model, "usage": usage, "results": kept})


def score(ask: FakeRequest) -> FakeAnswer:
    one, two = ask.fields["text_1"], ask.fields["text_2"]
    lefts, rights = ([t] if isinstance(t, str) else t for t in (one, two))
    lefts = lefts * len(rights) if len(lefts) == 1 else lefts
    scores = [_similarity(a, b) for a, b in zip(lefts, rights, strict=False)]
    items = [{"index": i, "object": "score", "score": s} for i, s in enumerate(scores)]
    words = count_words(one) + count_words(two)
    usage = {"prompt_tokens": words, "total_tokens": words, "completion_tokens": 0}
    named = {"id": f"score-fake-{ask.serial}", "object": "list", "created": CREATED, "model": ask.model}
    return _json(named | {"data": items, "usage": usage})


def tokenize(ask: FakeRequest) -> FakeAnswer:
    """Tokens are code points here, so that detokenize can reverse it."""
    text = ask.fields.get("prompt") or "".join(_document(m) for m in ask.fields.get("messages") or ())
    return _json({"count": len(text), "max_model_len": 4096, "tokens": [ord(c) for c in text]})


def detokenize(ask: FakeRequest) -> FakeAnswer:
    return _json({"prompt": "".join(chr(t) for t in ask.fields["tokens"])})


def transcription(ask: FakeRequest) -> FakeAnswer:
    """Reports the received file, so that a test can compare it with the one sent. `file` is null if there was none."""
    boundary = re.search(r'boundary="?([^";]+)', ask.content_type)
    if boundary is None:
        return error("openai", 400, "the body must be a multipart form", param="file")
    parts = ask.body.split(b"--" + boundary[1].encode())[1:-1]
    file = next((f for f in map(_form_file, parts) if f), None)
    return _json({"text": text_of(ask.script.parts), "file": file})


def _form_file(part: bytes) -> dict[str, Any] | None:
    head, _, rest = part.partition(b"\r\n\r\n")
    name = re.search(rb'filename="([^"]*)"', head)
    data = rest.removesuffix(b"\r\n")
    return {"filename": name[1].decode(), "size": len(data), "sha256": _sha256(data)} if name else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def speech_audio(_: FakeRequest) -> FakeAnswer:
    return FakeAnswer(bytes(range(256)) * 16, content_type="audio/mpeg")


def images(ask: FakeRequest) -> FakeAnswer:
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n fake").decode()
    return _json({"created": CREATED, "data": [{"b64_json": pixel} for _ in range(ask.choices)]})


def echo(ask: FakeRequest) -> FakeAnswer:
    """For paths that a gateway passes through: describes the request exactly as received."""
    seen = {"method": ask.method, "path": ask.path, "content_type": ask.content_type}
    body = {"bytes": len(ask.body), "sha256": _sha256(ask.body)}
    return _json({"id": f"file-fake-{ask.serial}", "object": "file"} | seen | body)


def models(ask: FakeRequest) -> FakeAnswer:
    length = {"max_model_len": 4096} if ask.vllm else {}
    model = {"id": ask.default_model, "object": "model", "created": CREATED, "owned_by": "fake"} | length
    named = ask.path.removeprefix("/models/")
    return _json(model | {"id": named} if named != ask.path else {"object": "list", "data": [model]})


def health(_: FakeRequest) -> FakeAnswer:
    return FakeAnswer(content_type="text/plain")


def metrics(ask: FakeRequest) -> FakeAnswer:
    """The lines of vLLM's /metrics from which a gateway reads the load."""
    lines = [
        f'# TYPE vllm:{name} gauge\nvllm:{name}{{engine="0",model_name="{ask.default_model}"}} {value}\n'
        for name, value in ask.load.items()
    ]
    return FakeAnswer("".join(lines).encode(), content_type="text/plain; version=0.0.4; charset=utf-8")
