"""The members of requests, answers and events of three APIs, as the types of their own clients have them."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Annotated, Any, Union, get_args, get_origin

import anthropic
import anthropic.types
import anthropic.types.beta
import openai.types
import openai.types.chat
import openai.types.responses
import pydantic
import typing_extensions
from anthropic.types import message_create_params as messages
from anthropic.types.beta import message_create_params as beta_messages
from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

Paths = dict[str, dict[str, list[str]]]
"""The paths to all members, as in `messages[].content[].text`, by API and by request, answer and stream."""


def sdk_versions() -> dict[str, str]:
    return {name: version(name) for name in ("openai", "anthropic")}


def sdk_members() -> Paths:
    """Every type is entered once for each side of an API: recursive ones have no end."""
    sides: dict[str, dict[str, tuple[Any, ...]]] = {
        "chat": {
            "request": (chat.CompletionCreateParamsStreaming,),
            "answer": (openai.types.chat.ChatCompletion,),
            "stream": (openai.types.chat.ChatCompletionChunk,),
        },
        "completions": {
            "request": (completions.CompletionCreateParamsStreaming,),
            "answer": (openai.types.Completion,),
            "stream": (openai.types.Completion,),
        },
        "responses": {
            "request": (responses.ResponseCreateParamsStreaming,),
            "answer": (openai.types.responses.Response,),
            "stream": (openai.types.responses.ResponseStreamEvent,),
        },
        "messages": {
            "request": (messages.MessageCreateParamsStreaming, beta_messages.MessageCreateParamsStreaming),
            "answer": (anthropic.types.Message, anthropic.types.beta.BetaMessage),
            "stream": (anthropic.types.RawMessageStreamEvent, anthropic.types.beta.BetaRawMessageStreamEvent),
        },
    }
    return {api: {side: _paths(kinds) for side, kinds in given.items()} for api, given in sides.items()}


def _paths(kinds: Iterable[Any]) -> list[str]:
    entered: set[Any] = set()
    return sorted({path for kind in kinds for path in _below(kind, "", entered)})


def _below(kind: Any, path: str, entered: set[Any]) -> Iterator[str]:
    members = _members(kind)
    if members is not None:
        if kind in entered:
            return
        entered.add(kind)
        for name, inner in members.items():
            below = f"{path}.{name}" if path else name
            yield below
            yield from _below(inner, below, entered)
    elif get_origin(kind) in (Union, types.UnionType):
        for inner in get_args(kind):
            yield from _below(inner, path, entered)
    elif get_origin(kind) is Annotated or str(get_origin(kind)).endswith(("Required", "NotRequired")):
        yield from _below(get_args(kind)[0], path, entered)
    elif isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
        yield from _below(get_args(kind)[1], path + ".*", entered)
    elif isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Iterable):
        yield from _below(get_args(kind)[0], path + "[]", entered)


def _members(kind: Any) -> dict[str, Any] | None:
    """The members of an object by their names on the wire; None if it is none."""
    if typing_extensions.is_typeddict(kind):
        hints = typing_extensions.get_type_hints(kind, include_extras=True)
        return {_alias(hint) or name: hint for name, hint in hints.items()}
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return {each.alias or name: each.annotation for name, each in kind.model_fields.items()}
    return None


def _alias(hint: Any) -> str | None:
    """The name on the wire of a member whose name is a word of Python."""
    while get_origin(hint) is not None and get_origin(hint) is not Annotated:
        if not str(get_origin(hint)).endswith(("Required", "NotRequired")):
            return None
        hint = get_args(hint)[0]
    found = (getattr(each, "alias", None) for each in get_args(hint)[1:])
    return next((alias for alias in found if alias), None)
