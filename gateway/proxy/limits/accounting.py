"""The cost of an answered call of each API whose upstream reports no usage. Reported usage always counts. Pure.

An answer whose size says nothing about its cost is unpriced, never free. docs/teams.md shows the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from gateway.proxy.request.call import Api

Basis = Literal["text", "input", "unpriced", "free"]
"""`text`: input and output are estimated from their bytes. `input`: the input is, and the answer has no tokens of its
own."""


class Accounting(NamedTuple):
    basis: Basis
    reason: str


_TEXT = Accounting("text", "4 bytes a token, of the request and of the answer")
_INPUT = Accounting("input", "4 bytes a token of the request; vectors and scores have none")
_AUDIO_IN = Accounting("unpriced", "audio is billed by its duration or by audio tokens, which its bytes do not show")
_MEDIA_OUT = Accounting(
    "unpriced", "the answer is billed by its pictures or by audio tokens, which its bytes do not show"
)
_COUNTED = Accounting("free", "it counts tokens, and runs no model")

ACCOUNTING: Mapping[Api, Accounting] = {
    "chat": _TEXT,
    "chat_batch": _TEXT,
    "completions": _TEXT,
    "generate": _TEXT,
    "responses": _TEXT,
    "compact": _TEXT,
    "messages": _TEXT,
    "generate_content": _TEXT,
    "converse": _TEXT,
    "invoke_model": _TEXT,
    "embeddings": _INPUT,
    "moderations": _INPUT,
    "rerank": _INPUT,
    "score": _INPUT,
    "classify": _INPUT,
    "pooling": _INPUT,
    "decisions": _INPUT,
    "systemone": _INPUT,
    "transcriptions": _AUDIO_IN,
    "translations": _AUDIO_IN,
    "speech": _MEDIA_OUT,
    "images": _MEDIA_OUT,
    "count_tokens": _COUNTED,
    "input_tokens": _COUNTED,
    "tokenize": _COUNTED,
    "detokenize": _COUNTED,
    "gemini_count_tokens": _COUNTED,
    "bedrock_count_tokens": _COUNTED,
    "passthrough": Accounting("unpriced", "POST, PUT and PATCH may run anything; GET, HEAD and DELETE are free"),
}
FREE_APIS: frozenset[Api] = frozenset(api for api, how in ACCOUNTING.items() if how.basis == "free")
UNREAD_APIS: frozenset[Api] = frozenset(api for api, how in ACCOUNTING.items() if how.basis == "unpriced")
