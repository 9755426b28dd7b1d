"""Paths of vendors' own APIs: those that name the model and, by their verb, whether the answer is a stream; and all
others of the same APIs. `api_of` is the one place that decides whose API a request belongs to. Pure."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote, unquote_to_bytes

from gateway.config.config import PassthroughApi
from gateway.core.errors import BadRequest
from gateway.proxy.request.call import Api
from gateway.proxy.types import Headers

Vendor = Literal["gemini", "bedrock"]
GEMINI_PATH = b"/v1beta/models/{model}"
BEDROCK_PATH = b"/model/{model}"
GEMINI_APIS: tuple[Api, ...] = ("generate_content", "gemini_count_tokens")
BEDROCK_APIS: tuple[Api, ...] = ("converse", "invoke_model", "bedrock_count_tokens")
VENDOR_APIS: frozenset[Api] = frozenset((*GEMINI_APIS, *BEDROCK_APIS))
"""APIs of vendors' own clients, which upstreams of these vendors alone have."""
FRAMED_APIS: frozenset[Api] = frozenset({"converse", "invoke_model"})
"""APIs whose streams are the binary frames of AWS."""
GEMINI_VERSIONS = ("/v1beta", "/v1alpha", "/v1beta1")
"""The versions that only Google's APIs have. Its library asks for /v1 by default, as OpenAI's does."""
VENDOR_PREFIXES: dict[str, Vendor] = {
    **{f"{version}/": "gemini" for version in GEMINI_VERSIONS},
    "/model/": "bedrock", "/guardrail/": "bedrock", "/guardrail-checks/": "bedrock", "/async-invoke": "bedrock",
}  # fmt: skip
"""The API that a path belongs to, by its beginning."""
_GOOGLE_HEADERS = frozenset({b"x-goog-api-key", b"x-goog-api-client"})
"""Headers that Google's libraries send with every request, and no others do."""
_GOOGLE_COLLECTIONS = (
    "auth_tokens|batchPredictionJobs|cachedContents|corpora|dynamic|fileSearchStores|generatedFiles|interactions|"
    "operations|projects|publishers|tunedModels|tuningJobs"
)
_OF_GOOGLE = re.compile(
    rf"/v1/(?:(?:{_GOOGLE_COLLECTIONS})(?:/.*)?"
    r"|(?:[^/:]+/)*(?!ft:)[^/:]+:[A-Za-z]+"  # a verb; OpenAI's ids of tuned models, ft:…, have colons, too
    r"|models/[^/]+/operations/.*)"
)
"""Paths below /v1 that only Google's APIs have."""
_VERTEX = re.compile(rb"/v1[a-z0-9]*/(?:projects|publishers)(?:/.*)?")
_GEMINI = re.compile(rb"/v1(?:beta|alpha)?/models/([^/:]+)(:[A-Za-z]+)")
_BEDROCK = re.compile(rb"/model/([^/]+)(/[a-z-]+)")
_VERBS_WITHOUT_ANSWER = frozenset(
    {b"computetokens", b"countmessagetokens", b"counttexttokens", b"counttokens",  # count
     b"cancel", b"download", b"importfile", b"query", b"register", b"transferownership", b"updateembedcontentbatch",
     b"updategeneratecontentbatch", b"uploadtofilesearchstore", b"wait"}  # administer files, corpora, batches
)  # fmt: skip
"""Verbs of Google's APIs that ask no model for anything but a count. Every other verb counts as one that does: new ones
come."""
_ASK_MODELS = re.compile(rb"/v1[a-z0-9]*/(?:auth_?tokens|interactions|openai)(?:/.*)?|/async-invoke")
"""Paths of Google's and AWS's APIs whose bodies name the model, or whose answers are credentials for any."""
_READS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


def split_model(path: bytes) -> tuple[bytes, str] | None:
    """A path with a place for its model, and the model; None if it has no such form."""
    found, form = _GEMINI.fullmatch(path), GEMINI_PATH
    if found is None:
        found, form = _BEDROCK.fullmatch(path), BEDROCK_PATH
    return None if found is None else (form + found[2], unquote(found[1].decode("latin-1")))


def vendor_of(path: str) -> Vendor | None:
    """The vendor whose API alone has this path; None if it is none of theirs, or others have it, too."""
    if _OF_GOOGLE.fullmatch(path):
        return "gemini"
    return next((vendor for prefix, vendor in VENDOR_PREFIXES.items() if path.startswith(prefix)), None)


def api_of(path: str, headers: Headers) -> PassthroughApi:
    """The API that a request belongs to: by its path where one API alone has it, else by the headers that the clients
    of an API send. Each API has an upstream and a credential of its own (`passthrough`)."""
    if vendor := vendor_of(path):
        return vendor
    names = {name for name, _ in headers}
    if not _GOOGLE_HEADERS.isdisjoint(names):
        return "gemini"
    if path == "/v1/messages" or path.startswith("/v1/messages/") or b"anthropic-version" in names:
        return "anthropic"
    return "openai"


def is_vertex(meant: bytes) -> bool:
    """Whether a lower-case path is one of Vertex AI, which names the project and the model: it is served nowhere."""
    return _VERTEX.fullmatch(meant) is not None


def names_routed_model(meant: bytes) -> bool:
    """Whether a lower-case path asks a model of Gemini's for an answer: such a path is routed, and never forwarded."""
    verb = _verb(meant)
    return b"generate" in verb and verb not in _VERBS_WITHOUT_ANSWER


def asks_model(method: str, meant: bytes) -> bool:
    """Whether a request to this lower-case path asks a model of Google's or AWS's, whichever its path or body names:
    `keys[].models` cannot limit which."""
    if method in _READS:
        return False
    verb = _verb(meant)
    return (verb != b"" and verb not in _VERBS_WITHOUT_ANSWER) or _ASK_MODELS.fullmatch(meant) is not None


def _verb(meant: bytes) -> bytes:
    """The verb at the end of a path of Google's; b"" if it has none. Ids of OpenAI's tuned models have colons, too."""
    last = meant.rpartition(b"/")[2]
    verb = last.rpartition(b":")[2]
    return verb if verb != last and verb.isalpha() and not last.startswith(b"ft:") and meant[:3] == b"/v1" else b""


def below_base(path: bytes) -> bytes:
    """A path below an upstream's base URL, which ends in the version that the path begins with."""
    return next((path[len(v) :] for v in _VERSIONS if path.startswith(v + b"/")), path)


_VERSIONS = (*(version.encode() for version in GEMINI_VERSIONS), b"/v1")


def check_key_in_query(query: bytes) -> None:
    """Raises BadRequest for a key in the query, where Gemini's clients may send it: it would be this gateway's, and
    reach the upstream."""
    names = (part.partition(b"=")[0] for part in re.split(b"[&;]", query))
    if any(unquote_to_bytes(name).strip().lower() == b"key" for name in names):
        raise BadRequest("the query has a parameter `key`; send the key in the header x-goog-api-key", param="key")
