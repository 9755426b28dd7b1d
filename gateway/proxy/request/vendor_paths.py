"""Paths of vendors' own APIs: those that name the model and, by their verb, whether the answer is a stream; and all
others of the same APIs. Pure."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote, unquote_to_bytes

from gateway.core.errors import BadRequest
from gateway.proxy.request.call import Api

Vendor = Literal["gemini", "bedrock"]
GEMINI_PATH = b"/v1beta/models/{model}"
BEDROCK_PATH = b"/model/{model}"
GEMINI_APIS: tuple[Api, ...] = ("generate_content", "gemini_count_tokens")
BEDROCK_APIS: tuple[Api, ...] = ("converse", "invoke_model", "bedrock_count_tokens")
VENDOR_APIS: frozenset[Api] = frozenset((*GEMINI_APIS, *BEDROCK_APIS))
"""APIs of vendors' own clients, which upstreams of these vendors alone have."""
FRAMED_APIS: frozenset[Api] = frozenset({"converse", "invoke_model"})
"""APIs whose streams are the binary frames of AWS."""
VENDOR_PREFIXES: dict[str, Vendor] = {
    "/v1beta/": "gemini", "/model/": "bedrock", "/guardrail/": "bedrock", "/guardrail-checks/": "bedrock",
    "/async-invoke": "bedrock",
}  # fmt: skip
"""The API that a path belongs to, by its beginning."""
_GEMINI = re.compile(rb"/v1(?:beta|alpha)?/models/([^/:]+)(:[A-Za-z]+)")
_BEDROCK = re.compile(rb"/model/([^/]+)(/[a-z-]+)")
_GENERATES = re.compile(rb"/v1beta/(?:tuned)?models/[^/]*:.*generate.*")


def split_model(path: bytes) -> tuple[bytes, str] | None:
    """A path with a place for its model, and the model; None if it has no such form."""
    found, form = _GEMINI.fullmatch(path), GEMINI_PATH
    if found is None:
        found, form = _BEDROCK.fullmatch(path), BEDROCK_PATH
    return None if found is None else (form + found[2], unquote(found[1].decode("latin-1")))


def vendor_of(path: str) -> Vendor | None:
    """The vendor whose API has this path; None if it is none of theirs."""
    return next((vendor for prefix, vendor in VENDOR_PREFIXES.items() if path.startswith(prefix)), None)


def names_routed_model(meant: bytes) -> bool:
    """Whether a lower-case path asks a model of Gemini's for an answer: such a path is routed, and never forwarded."""
    return _GENERATES.fullmatch(meant) is not None


def below_base(path: bytes) -> bytes:
    """A path below an upstream's base URL, which ends in the version that the path begins with."""
    return next((path[len(v) :] for v in (b"/v1beta", b"/v1") if path.startswith(v + b"/")), path)


def check_key_in_query(query: bytes) -> None:
    """Raises BadRequest for a key in the query, where Gemini's clients may send it: it would be this gateway's, and
    reach the upstream."""
    names = (part.partition(b"=")[0] for part in re.split(b"[&;]", query))
    if any(unquote_to_bytes(name).strip().lower() == b"key" for name in names):
        raise BadRequest("the query has a parameter `key`; send the key in the header x-goog-api-key", param="key")
