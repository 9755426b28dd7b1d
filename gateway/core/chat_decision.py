"""Requests of the chat, Responses and Messages APIs that ask for a decision, in their canonical form.

The schema of the answer gives the questions, and the messages the input. A request that asks for anything that a
decision does not give is ineligible as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.core.decision import DecisionRequest
from gateway.core.decision_schema import DecisionSchema, Ineligible, IneligibleReason, read_schema
from gateway.core.json_values import as_list, as_object
from gateway.core.request_format import output_format

Body = Mapping[str, Any]

APIS = frozenset({"chat", "responses", "messages"})
"""The APIs whose requests may ask for a decision."""
_TOOLS = ("tools", "functions", "web_search_options", "mcp_servers", "plugins", "search_parameters", "container")
_KEPT = ("previous_response_id", "conversation", "background", "store")
LIMITING = frozenset({*_TOOLS, *_KEPT, "n", "best_of", "logprobs", "top_logprobs", "include", "audio", "modalities"})
"""Options of which some values make a request ineligible."""
_LOGPROBS = "message.output_text.logprobs"


class ChatDecision(NamedTuple):
    """A request as a decision."""

    request: DecisionRequest
    schema: DecisionSchema


def decision_of(api: str, body: Body) -> ChatDecision:
    """The decision that a request asks for. Raises Ineligible."""
    if api not in APIS:
        raise Ineligible("no_schema")
    schema = schema_of(body)
    check_options(api, body)
    return ChatDecision(input_of(api, body, schema), schema)


def schema_of(body: Body) -> DecisionSchema:
    """The schema of the answer; of the body, only `request_format.FORMAT_MEMBERS` are read. Raises Ineligible."""
    wanted = output_format(body)
    if wanted is None or not isinstance(wanted.schema, dict):
        raise Ineligible("no_schema")
    return read_schema(wanted.schema)


def check_options(api: str, body: Body) -> None:
    """Raises Ineligible for an option of the request that a decision cannot follow."""
    if LIMITING.isdisjoint(body):
        if api == "responses":
            raise Ineligible("stored")
        return
    for name in ("n", "best_of"):
        if body.get(name) not in (None, 1):
            raise Ineligible("several_answers")
    if body.get("logprobs") or body.get("top_logprobs") or _LOGPROBS in as_list(body.get("include")):
        raise Ineligible("logprobs")
    if any(body.get(name) for name in _TOOLS) or body.get("web_search_options") is not None:
        raise Ineligible("tools")
    kept = [name for name in _KEPT if body.get(name)]
    if kept or (api == "responses" and body.get("store") is not False):
        raise Ineligible("stored")
    if body.get("audio") or as_list(body.get("modalities")) not in ([], ["text"]):
        raise Ineligible("input")


def input_of(api: str, body: Body, schema: DecisionSchema) -> DecisionRequest:
    """The input of the decision: the messages, and their instructions apart. Raises Ineligible."""
    reader = _Messages()
    turns = reader.turns(body.get("input") if api == "responses" else body.get("messages"))
    instructions = [
        text for text in (reader.system(body.get("system")), reader.system(body.get("instructions"))) if text
    ]
    while len(turns) > 1 and turns[0]["role"] == "developer":
        instructions.append(turns.pop(0)["content"])
    if not turns:
        raise Ineligible("input")
    if turns[-1]["role"] == "assistant":
        raise Ineligible("prefill")
    alone = len(turns) == 1 and turns[0]["role"] in ("user", "developer")
    state: Any = turns[0]["content"] if alone else turns
    losses = frozenset[str]() if alone else frozenset({"input"})
    return DecisionRequest(state, schema.questions, "\n\n".join(instructions) or None, tuple(reader.images), losses)


_ROLES: Mapping[str, str] = {"system": "developer", "developer": "developer", "user": "user", "assistant": "assistant"}
_TEXTS = frozenset({"text", "input_text", "output_text"})


class _Messages:
    """Reads the messages of one request, whose images it collects."""

    def __init__(self) -> None:
        self.images = list[str]()

    def turns(self, messages: Any) -> list[dict[str, str]]:
        if isinstance(messages, str) and messages:
            return [{"role": "user", "content": messages}]
        if not isinstance(messages, list) or not messages:
            raise Ineligible("input")
        return [self._turn(message) for message in messages]

    def system(self, value: Any) -> str:
        """The text of Anthropic's `system`, or of `instructions`; "" if there is none."""
        return "" if value is None else self._text(value)

    def _turn(self, message: Any) -> dict[str, str]:
        if type(message) is dict and len(message) == 2 and type(message.get("content")) is str:
            role = _ROLES.get(message.get("role", ""))  # nearly every message is so
            if role is not None:
                return {"role": role, "content": message["content"]}
        message = as_object(message)
        if message.get("tool_calls") or message.get("function_call") or message.get("role") in ("tool", "function"):
            raise Ineligible("tools")
        role = _ROLES.get(message.get("role", ""))
        if role is None or message.get("type", "message") != "message":
            raise Ineligible("tools" if "call_id" in message else "input")
        return {"role": role, "content": self._text(message.get("content"))}

    def _text(self, content: Any) -> str:
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise Ineligible("input")
        return "\n".join([text for part in content if (text := self._part(as_object(part))) is not None])

    def _part(self, part: Mapping[str, Any]) -> str | None:
        """The text of a part; None for an image, which is kept apart."""
        kind = part.get("type")
        if kind in _TEXTS and isinstance(part.get("text"), str):
            return str(part["text"])
        if kind in ("tool_use", "tool_result"):
            raise Ineligible("tools")
        url = _image(kind, part)
        if url is None:
            raise Ineligible("input")
        self.images.append(url)
        return None


def _image(kind: Any, part: Mapping[str, Any]) -> str | None:
    """The URL of an image; None if the part is none."""
    url: Any = None
    if kind == "image_url":
        url = as_object(part.get("image_url")).get("url")
    elif kind == "input_image":
        url = part.get("image_url")
    elif kind == "image":
        source = as_object(part.get("source"))
        url = source.get("url")
        if source.get("type") == "base64":
            url = f"data:{source.get('media_type')};base64,{source.get('data')}"
    return url if isinstance(url, str) and url else None


def reason_counts(reasons: Sequence[IneligibleReason | None]) -> list[tuple[IneligibleReason, int]]:
    """How often each reason occurs, the most frequent first; None counts as eligible and is left out."""
    counts: dict[IneligibleReason, int] = {}
    for reason in reasons:
        if reason is not None:
            counts[reason] = counts.get(reason, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
