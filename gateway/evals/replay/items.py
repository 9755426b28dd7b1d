"""One row of a dataset: what is asked, the right answer, and what it depends on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Literal

import orjson

Api = Literal["chat", "completions", "responses", "messages"]
PATHS: Mapping[Api, str] = MappingProxyType(
    {"chat": "/chat/completions", "completions": "/completions", "responses": "/responses", "messages": "/messages"}
)
_ASKED_WITH: Mapping[Api, tuple[str, ...]] = MappingProxyType(
    {"chat": ("messages",), "completions": ("prompt",), "responses": ("input", "prompt"), "messages": ("messages",)}
)
REFERENCES = ("reference", "ground_truth")
# What of a row with `messages` is part of the request; everything else there is somebody's own note.
_PARAMETERS = frozenset({
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "n", "presence_penalty",
    "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
    "parallel_tool_calls", "functions", "function_call", "reasoning_effort", "verbosity",
})  # fmt: skip
# Of one sending, or of one place, and so no part of a question.
_NOT_ASKED = frozenset({
    "model", "stream", "stream_options", "store", "metadata", "user", "safety_identifier", "prompt_cache_key",
    "service_tier", "background",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """A question that is asked of every target.

    number: its place among the dataset's questions, from 1. request: the body, without a model. reference: the right
    answer; None: none is known. cluster: items that depend on each other (turns of one conversation, the same question
    twice) share it.
    """

    number: int
    api: Api
    request: Mapping[str, Any]
    reference: str | None
    cluster: str

    def canonical(self) -> bytes:
        """A row of JSONL, and what the dataset's hash is made of: the same for the same row, however it was written."""
        row: dict[str, Any] = {"api": self.api, "request": self.request, "cluster": self.cluster}
        if self.reference is not None:
            row["reference"] = self.reference
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)

    def example(self) -> str | None:
        """The one thing a single user says, as a row with `examples` has it; None: the request is more than that."""
        messages = self.request.get("messages")
        if self.api != "chat" or set(self.request) != {"messages"} or not messages or len(messages) != 1:
            return None
        [said] = messages
        plain = set(said) == {"role", "content"} and said["role"] == "user" and isinstance(said["content"], str)
        return str(said["content"]) if plain else None


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A row as it was read. ignored: names in it that mean nothing here."""

    item: DatasetItem
    ignored: frozenset[str] = frozenset()


def item_of(row: Mapping[str, Any], number: int) -> ParsedRow:
    """A row in any of its forms. Raises ValueError, with what was expected.

    {"examples", "ground_truth"}: a question and its answer. {"messages", …}: a request, where a last message of the
    assistant is the reference, as in files for OpenAI's fine-tuning. {"request", "api"}: a body as it is.
    """
    forms = {"request": _whole, "messages": _messages, "examples": _example}
    form = next((name for name in forms if row.get(name) is not None), None)
    if form is None:
        if "examples" in row:
            raise ValueError("examples is empty; expected a question")
        found = ", ".join(sorted(row)[:8]) or "nothing"
        raise ValueError(f"expected `examples`, `messages` or `request`, found {found}")
    api, request, reference, known = forms[form](row)
    cluster = row.get("cluster")
    if cluster is not None and not isinstance(cluster, str | int):
        raise ValueError(f"cluster must be text, not {_kind(cluster)}")
    named = _digest(request) if cluster is None or cluster == "" else str(cluster)
    ignored = frozenset(k for k, v in row.items() if v is not None) - known - {*REFERENCES, "cluster"}
    return ParsedRow(DatasetItem(number, api, request, reference, named), ignored)


Parts = tuple[Api, dict[str, Any], str | None, frozenset[str]]


def _example(row: Mapping[str, Any]) -> Parts:
    question = row["examples"]
    if not isinstance(question, str):
        raise ValueError(f"examples must be text, not {_kind(question)}")
    if not question.strip():
        raise ValueError("examples is empty; expected a question")
    return "chat", {"messages": [{"role": "user", "content": question}]}, _reference(row), frozenset({"examples"})


def _messages(row: Mapping[str, Any]) -> Parts:
    messages = _turns(row["messages"])
    reference = _reference(row)
    if messages[-1]["role"] == "assistant" and len(messages) > 1 and not any(name in row for name in REFERENCES):
        last = messages.pop().get("content")
        reference = last if isinstance(last, str) else None
    request = {"messages": messages, **{k: v for k, v in row.items() if k in _PARAMETERS and v is not None}}
    return "chat", request, reference, _PARAMETERS | {"messages"}


def _whole(row: Mapping[str, Any]) -> Parts:
    named, body = row.get("api") or "chat", row["request"]
    api = next((known for known in _ASKED_WITH if known == named), None)
    if api is None:
        raise ValueError(f"api {named!r} cannot be replayed; expected one of {', '.join(_ASKED_WITH)}")
    if not isinstance(body, Mapping):
        raise ValueError(f"request must be an object, not {_kind(body)}")
    request = bare(body)
    if not any(request.get(name) for name in _ASKED_WITH[api]):
        raise ValueError(f"request has no {' or '.join(_ASKED_WITH[api])}")
    if "messages" in request:
        request["messages"] = _turns(request["messages"])
    return api, request, _reference(row), frozenset({"request", "api", "id"})


def bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what belongs to one sending: the model, the stream, the caller's own marks."""
    return {k: v for k, v in body.items() if k not in _NOT_ASKED}


def _turns(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"messages must be a list with something in it, not {_kind(messages)}")
    out = []
    for at, turn in enumerate(messages):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
            raise ValueError(f"messages[{at}] must be an object with a role")
        # Tables give every turn every column; `weight` is a word to a trainer.
        out.append({k: v for k, v in turn.items() if v is not None and k != "weight"})
        if "content" not in out[-1] and "content" in turn:
            out[-1]["content"] = None
    return out


def _reference(row: Mapping[str, Any]) -> str | None:
    given = {name: row[name] for name in REFERENCES if row.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, not {_kind(value)}")
    if len(set(given.values())) > 1:
        raise ValueError("reference and ground_truth differ; give one of them")
    return next(iter(given.values()), None) or None


def _digest(request: Mapping[str, Any]) -> str:
    return sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
