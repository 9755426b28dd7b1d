"""What guards judge, refuse and do not judge, by API and member: docs/guards.md has the tables of this module. Pure.

A request, an answer and an event are judged in every member, of any name, but for the structure listed here. An
endpoint that is not in ENDPOINTS fails a test, and so does a member of the APIs' pinned lists that is not in MEMBERS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.proxy.request.call import Api

Coverage = Literal["judged", "request judged", "refused", "not judged"]

ENDPOINTS: Mapping[Api, Coverage] = {
    "chat": "judged",
    "completions": "judged",
    "responses": "judged",
    "messages": "judged",
    "decisions": "judged",
    "systemone": "judged",
    "count_tokens": "request judged",
    "input_tokens": "request judged",
    "tokenize": "request judged",
    "chat_batch": "refused",
    "generate": "refused",
    "compact": "refused",
    "generate_content": "refused",
    "gemini_count_tokens": "refused",
    "converse": "refused",
    "invoke_model": "refused",
    "bedrock_count_tokens": "refused",
    "passthrough": "refused",
    "embeddings": "not judged",
    "moderations": "not judged",
    "rerank": "not judged",
    "score": "not judged",
    "classify": "not judged",
    "pooling": "not judged",
    "detokenize": "not judged",
    "transcriptions": "not judged",
    "translations": "not judged",
    "speech": "not judged",
    "images": "not judged",
}
"""Every API. `refused`: HTTP 403 where a guard is enforced, since the text would reach the same models unjudged."""

BY_ID: Mapping[str, str] = {
    "`GET /v1/responses/ID`, also as a stream, `…/input_items`, `…/cancel`": "refused where a guard on answers acts",
    "`/v1/responses` with `background: true`": "refused where a guard on answers acts",
    "`GET /v1/chat/completions/ID`, `/v1/conversations/…`, `/v1/batches/…`, `/v1/messages/batches/…`": "refused",
    "content of files, as `GET /v1/files/ID/content`, also the output of a batch; search of vector stores": "refused "
    "where a guard on answers is enforced",
    "`previous_response_id`, `conversation`, stored prompts, file ids": "the id is judged, what it names is not",
}
"""Answers and texts that an upstream stores."""

_FILES = frozenset({b"containers", b"files", b"skills", b"vector_stores"})
_CONTENT = frozenset({b"content", b"search"})
FORWARDED = frozenset({
    b"assistants", b"audio", b"cachedContents", b"containers", b"embeddings", b"files", b"fine_tuning", b"images",
    b"models", b"organization", b"organizations", b"skills", b"uploads", b"user_profiles", b"vector_stores", b"videos",
})  # fmt: skip
"""Segments after the version of `passthrough` paths that generate no text, and return no answer of a model. Where a
guard is enforced, all others are refused."""

UNREADABLE = ("prompt_embeds", "prompt_token_ids")
"""Members of a request that hold a text in a form that no guard reads. Refused where one on requests is enforced."""
HEAD = frozenset({
    "id", "object", "created", "created_at", "completed_at", "model", "system_fingerprint", "service_tier", "usage",
})  # fmt: skip
"""Top-level members of an answer and of an event that the server sets, and not the model: not judged."""
PLAIN_CHOICE = frozenset({"index", "message", "finish_reason"})
"""Members of a choice that has no text besides its message."""
PLAIN_MESSAGE = frozenset({"role", "content"})
PLAIN_REASONS = frozenset({None, "stop", "length", "content_filter", "tool_calls", "function_call"})
TOKENS = frozenset({"logprobs", "prompt_logprobs"})
"""Members of an answer whose tokens are joined, and judged as one text."""
FREE_FORM = frozenset({
    "metadata", "chat_template_kwargs", "mm_processor_kwargs", "media_io_kwargs", "vllm_xargs", "kv_transfer_params",
    "ec_transfer_params", "variables",
})  # fmt: skip
"""Members whose objects are judged like a tool's input: as one document, in which the names of members count."""
UNJUDGED_NUMBERS = frozenset({"seed"})
"""Members whose numbers are random."""
MOST_DEPTH = 24
"""Objects and lists within each other; a deeper request is refused where a guard on requests is enforced."""

_ROLES = re.compile(r"user|assistant|system|developer|tool|function|model|critic|discriminator|unknown|latest_reminder")
_WORD = re.compile(r"[a-z]{1,32}(?:[._/-][a-z]{1,32}){0,6}(?:[-_/]?\d{1,4}|_\d{8})?")
_ID = re.compile(
    r"(?:(?:call|toolu|srvtoolu|mcptoolu|msg|resp|response|fc|fco|rs|ws|fs|ctc|ctco|cu|ci|ig|mcp|mcpl|mcpr|lsh|cmp|item|"
    r"chatcmpl|chatcmpl-tool|cmpl|gen|req|file|container|cntr|vs|ft|thread|run|step|conv|batch|event|user|session)[_-])?"
    r"(?:(?=[0-9-]*[a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?=[0-9]*[A-Za-z])(?![A-Za-z]{2}\d\d|A[KS]IA|AIza|eyJ|xox)[A-Za-z0-9]{20,64})|function-call-\d{20,22}"
)
"""Random ids. What begins like an account number or a key is none."""
_OPAQUE = re.compile(r"(?!sk-)[A-Za-z0-9+/_-]{64,}={0,2}")
_FILE = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}")
_PADDING = re.compile(r"(?=\d*[A-Za-z]|\Z)[A-Za-z0-9]{0,64}")

STRUCTURE: Mapping[str, re.Pattern[str]] = {
    "role": _ROLES,
    **dict.fromkeys(
        (
            "type", "object", "status", "finish_reason", "stop_reason", "native_finish_reason", "detail", "media_type",
            "format", "phase", "service_tier",
        ),
        _WORD,
    ),
    **dict.fromkeys(
        ("signature", "thought_signature", "encrypted_content", "encrypted_index", "encrypted_stdout"), _OPAQUE
    ),
    **dict.fromkeys(
        ("data", "file_data", "result", "b64_json", "partial_image_b64", "image_base64", "routed_experts"), _FILE
    ),
    "id": _ID,
    "obfuscation": _PADDING,
}  # fmt: skip
"""Members anywhere that are structure, and the form that their value then has: a word, a random id, or base64."""
_IDS = "_id"  # ends the name of a member that may hold a random id

_INLINE = "data:"
_SHORT_INLINE = 1_024  # characters up to which a file within a text is judged as it is
_LONGEST_HEAD = 200
_INLINE_HEAD = re.compile(
    r"data:(?:application|audio|font|image|model|text|video)/[a-z.+-]{0,80}\d{0,4}[a-z.+-]{0,80}\d?"
    r"(?:;charset=(?:utf-8|us-ascii))?;base64"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def is_structure(key: Any, value: str) -> bool:
    """Whether the text of a member is structure. key: its name; a number for the item of a list."""
    form = STRUCTURE.get(key)
    if form is None and type(key) is str and key.endswith(_IDS):
        form = _ID
    if form is not None and form.fullmatch(value) is not None:
        return True
    return value.startswith(_INLINE) and _is_file(value)


def _is_file(text: str) -> bool:
    """Whether a text is a `data:` URL of base64, to its end."""
    if len(text) <= _SHORT_INLINE:
        return False
    comma = text.find(",", 0, _LONGEST_HEAD)
    return (
        comma > 0
        and _INLINE_HEAD.fullmatch(text, 0, comma) is not None
        and _BASE64.fullmatch(text, comma + 1) is not None
    )


def forwards_unjudged(segments: Sequence[bytes]) -> bool:
    """Whether a path outside the routed endpoints may generate text, or return an answer of a model."""
    below = segments[1:] if segments and _VERSION.fullmatch(segments[0]) else segments
    return not below or below[0] not in FORWARDED or any(b":" in segment for segment in below)


def returns_content(segments: Sequence[bytes]) -> bool:
    """Whether a forwarded path returns what is in files, which may be answers of a model."""
    below = [segment.lower() for segment in segments if not _VERSION.fullmatch(segment)]
    return bool(below) and below[0] in _FILES and not _CONTENT.isdisjoint(below[1:])


_VERSION = re.compile(rb"v\d[a-z0-9]*")


def unreadable_member(fields: Mapping[str, Any]) -> str | None:
    """The member of a request that no guard can read: token ids, or embeddings; None if it has none."""
    named = next((name for name in UNREADABLE if fields.get(name)), None)
    if named is not None:
        return named
    prompt = fields.get("prompt")
    inner = [part for each in prompt if isinstance(each, list) for part in each] if isinstance(prompt, list) else []
    if isinstance(prompt, list) and any(isinstance(part, int | float) for part in (*prompt, *inner)):
        return "prompt"
    return "prompt_embeds" if _has_embedding(fields.get("messages")) else None


def _has_embedding(messages: Any) -> bool:
    """Whether a part of a message is an embedding in place of a text (vLLM)."""
    contents = (m.get("content") for m in messages if isinstance(m, dict)) if isinstance(messages, list) else ()
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return any(isinstance(part, dict) and part.get("type") == "prompt_embeds" for part in parts)


@dataclass(frozen=True, slots=True)
class KnownMembers:
    """The members at the top of a request, an answer or the events of a stream that are known."""

    judged: frozenset[str]
    refused: frozenset[str] = frozenset()
    """Members with which a request is refused where a guard on requests is enforced."""
    not_judged: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return name in self.judged or name in self.refused or name in self.not_judged


Side = Literal["request", "answer", "stream"]


def _request(names: str, refused: Sequence[str] = UNREADABLE) -> KnownMembers:
    return KnownMembers(frozenset(names.split()), frozenset(refused), frozenset({"model"}))


def _answer(names: str) -> KnownMembers:
    given = frozenset(names.split())
    return KnownMembers(given - HEAD, not_judged=given & HEAD)


_OPENAI = """
    frequency_penalty logit_bias max_tokens metadata n presence_penalty prompt_cache_key safety_identifier seed
    service_tier stop stream stream_options temperature tool_choice tools top_logprobs top_p user
"""
_VLLM = """
    add_generation_prompt add_special_tokens allowed_token_ids bad_words cache_salt chat_template chat_template_kwargs
    continue_final_message documents ec_transfer_params echo guided_choice guided_decoding_backend guided_grammar
    guided_json guided_regex guided_whitespace_pattern ignore_eos include_reasoning include_stop_str_in_output
    kv_transfer_params length_penalty logits_processors logprob_token_ids media_io_kwargs min_p min_tokens
    mm_processor_kwargs priority prompt_logprobs reasoning_effort repetition_detection repetition_penalty request_id
    response_format return_mm_kwargs return_prompt_text return_token_ids return_token_offsets
    return_tokens_as_token_ids routed_experts_prompt_start session_id skip_special_tokens spaces_between_special_tokens
    stop_token_ids stream_interval structural_tag structured_outputs thinking_token_budget top_k truncate_prompt_tokens
    truncation_side use_beam_search vllm_xargs watermarking
"""
_CHOICES = "choices created id metadata model moderation object service_tier system_fingerprint usage"
_VLLM_ANSWER = "ec_transfer_params kv_transfer_params metrics prompt_logprobs prompt_text prompt_token_ids"
_RESPONSE = """
    access_programs background completed_at conversation created_at error id image incomplete_details
    input_messages input_transformations instructions kv_transfer_params max_output_tokens max_tool_calls metadata model
    moderation object output output_messages output_text parallel_tool_calls previous_response_id prompt
    prompt_cache_diagnostics prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier
    service_tier status temperature text tool_choice tool_usage tools top_logprobs top_p truncation usage user
"""

MEMBERS: Mapping[tuple[Api, Side], KnownMembers] = {
    ("chat", "request"): _request(
        f"""{_OPENAI} {_VLLM} audio function_call functions logprobs max_completion_tokens messages modalities
        moderation parallel_tool_calls prediction prompt_cache_options prompt_cache_retention reasoning store thinking
        verbosity web_search_options"""
    ),
    ("chat", "answer"): _answer(f"{_CHOICES} {_VLLM_ANSWER}"),
    ("chat", "stream"): _answer(f"{_CHOICES} {_VLLM_ANSWER} obfuscation"),
    ("completions", "request"): _request(f"{_OPENAI} {_VLLM} best_of logprobs prompt suffix"),
    ("completions", "answer"): _answer(f"{_CHOICES} {_VLLM_ANSWER}"),
    ("completions", "stream"): _answer(f"{_CHOICES} {_VLLM_ANSWER}"),
    ("responses", "request"): _request(
        f"""{_OPENAI} {_VLLM} access_programs background background_options context_management conversation
        enable_response_messages image include input instructions max_output_tokens max_tool_calls moderation
        parallel_tool_calls previous_input_messages previous_response previous_response_id prompt prompt_cache_options
        prompt_cache_retention reasoning store text truncation"""
    ),
    ("responses", "answer"): _answer(_RESPONSE),
    ("responses", "stream"): _answer(
        """annotation annotation_index arguments background code command command_index content_index delta error input
        item item_id logprobs message obfuscation output output_format output_index param part partial_image_b64
        partial_image_index quality refusal response sequence_number size status stream_id summary_index text type"""
    ),
    ("messages", "request"): _request(
        f"""{_VLLM} betas billing_policy cache_control compaction container context_management diagnostics
        fallback_credit_token fallbacks inference_geo max_tokens mcp_servers messages metadata output_config
        output_format service_tier speed stop_sequences stream system temperature thinking thread tool_choice tools
        top_p user_profile_id workspace_id"""
    ),
    ("messages", "answer"): _answer(
        """container content context_management diagnostics id input_transformations model role stop_details stop_reason
        stop_sequence type usage"""
    ),
    ("messages", "stream"): _answer(
        "content_block context_management delta error index input_transformations message request_id type usage"
    ),
}
"""The members at the top that are known. Others are judged too; one that is not here fails a test, so that this table,
and with it docs/guards.md, names every member of the pinned lists of the APIs."""
