"""One recorded exchange as a row, and as a conversation for fine-tuning. Pure.

The columns are those of data sets as Hugging Face's `datasets` loads them: `messages` and `response`, measurements,
scores, and the probability `pi` with which the exchange was recorded. An average needs the weights 1 / pi.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.core.conversation import turns
from gateway.core.json_values import parse_object
from gateway.features.calls.rows.preferences import Preference
from gateway.store.query import Found, right_answer

PLAIN = (
    "id", "received", "alias", "upstream", "model", "variant", "caller", "api", "role", "pair", "experiment", "arm",
    "cluster", "messages", "tools", "parameters", "metadata", "response", "reasoning", "tool_calls", "correction",
    "reference", "finish_reason", "outcome", "status", "error", "input_tokens", "output_tokens", "cost_usd",
    "first_token_s", "total_s", "stratum", "pi", "feedback", "predictions",
)  # fmt: skip
_OF_SCORE = ("scorer", "version", "value", "label", "status", "pi")
_OF_PREDICTION = ("scorer", "target", "version", "predicted", "pi", "judged")
_OF_FEEDBACK = ("name", "value", "label", "comment", "correction")
# Members of a request that are columns of their own, or that say nothing of how the model was asked.
_NO_PARAMETERS = frozenset({
    "messages", "input", "prompt", "system", "instructions", "tools", "metadata", "model", "stream", "stream_options",
    "store", "user", "safety_identifier", "prompt_cache_key", "service_tier", "background",
})  # fmt: skip
_INLINE = b";base64,sha256="  # the placeholder of an image or a sound that is not stored


class NotExportable(Exception):
    """This exchange does not fit the form. The message is the reason, and the same for all such exchanges."""


def columns(scorers: Sequence[str]) -> dict[str, str]:
    """scorer → the name of its column: score_NAME with letters, digits and underscores, each name once."""
    names: dict[str, str] = {}
    for scorer in scorers:
        plain = name = "score_" + re.sub(r"\W", "_", scorer, flags=re.ASCII)
        n = 1
        while name in names.values():
            n += 1
            name = f"{plain}_{n}"
        names[scorer] = name
    return names


def row(found: Found, named: Mapping[str, str]) -> dict[str, Any]:
    """PLAIN, all `scores`, and a column for each scorer's newest value. named: the result of columns()."""
    body = parse_object(found["request"]) or {}
    values = {s["scorer"]: s["value"] for s in found["scores"]}
    return {
        **{name: found[name] for name in PLAIN if name in found},
        "received": datetime.fromtimestamp(found["received"], UTC),
        "messages": [{"role": role, "content": text} for role, text in turns(bytes(found["request"]))],
        "tools": _as_text(body.get("tools")),
        "parameters": _as_text({k: v for k, v in body.items() if k not in _NO_PARAMETERS and v is not None}),
        "metadata": _as_text(body.get("metadata")),
        "feedback": [{name: each[name] for name in _OF_FEEDBACK} for each in found["feedback"]],
        "predictions": [{name: each[name] for name in _OF_PREDICTION} for each in found["predictions"]],
        "response": found["text"],
        "reference": right_answer(found),
        "scores": [{name: s[name] for name in _OF_SCORE} for s in found["scores"]],
        **{column: values.get(scorer) for scorer, column in named.items()},
    }


def _as_text(value: Any) -> str | None:
    """JSON; None for what is empty."""
    return orjson.dumps(value).decode() if value else None


def preferred(found: Preference) -> dict[str, Any]:
    """{"prompt": [messages], "chosen": [answer], "rejected": [answer], …}: a row of a preference data set, in the
    conversational form that trl's DPOTrainer takes. Raises NotExportable."""
    asked, tools = question(found.served)
    if asked[-1].get("role") not in ("user", "tool", "assistant"):
        raise NotExportable("a conversation that does not end with a user's message")
    if not found.chosen or not found.rejected:
        raise NotExportable("empty answers")
    if found.chosen == found.rejected:
        raise NotExportable("two equal answers")
    if found.served["tool_calls"] != "[]":
        raise NotExportable("answers that call tools")
    _check_complete(found.served)
    return {
        "prompt": asked,
        "chosen": [{"role": "assistant", "content": found.chosen}],
        "rejected": [{"role": "assistant", "content": found.rejected}],
        **({"tools": tools} if tools else {}),
        "score_chosen": found.chosen_value, "score_rejected": found.rejected_value, "by": found.by,
        "id": found.served["id"],
    }  # fmt: skip


def conversation(found: Found) -> dict[str, Any]:
    """{"messages": […, the answer], "tools": …} for OpenAI's chat fine-tuning. Raises NotExportable.

    A person's correction replaces the answer.
    """
    asked, tools = question(found)
    answer: dict[str, Any] = {"role": "assistant"}
    calls = _calls(found["tool_calls"])
    if found["correction"] is not None:
        answer["content"] = found["correction"]
    else:
        _check_complete(found)
        if not found["text"] and not calls:
            raise NotExportable("empty answers")
        answer["content"] = found["text"] or None
        if calls:
            answer["tool_calls"] = calls
    return {"messages": [*asked, answer], **({"tools": tools} if tools else {})}


def evaluated(found: Found) -> dict[str, Any]:
    """{"item": …, "sample": …}: a line of a data source for OpenAI's evals, with the answer as the sample.

    `ideal` is a person's correction, else the reference of the request. Raises NotExportable.
    """
    asked, tools = question(found)
    _check_complete(found)
    ideal = right_answer(found) if found["correction"] is None else found["correction"]
    item = {
        "id": found["id"], "input": asked, "ideal": ideal,
        "alias": found["alias"], "pi": found["pi"],
        "scores": {s["scorer"]: s["value"] for s in found["scores"]}, **({"tools": tools} if tools else {}),
    }  # fmt: skip
    sample = {
        "output_text": found["text"], "output_tools": _calls(found["tool_calls"]),
        "finish_reason": found["finish_reason"], "model": found["model"],
    }  # fmt: skip
    return {"item": item, "sample": sample}


def question(found: Found) -> tuple[list[Any], list[Any] | None]:
    """The question as messages of the chat API, and the tools. Raises NotExportable."""
    request = bytes(found["request"])
    if found["truncated"]:
        raise NotExportable("cut at the byte cap")
    if _INLINE in request:
        raise NotExportable("images and sounds that are not stored")
    body = parse_object(request) or {}
    if found["api"] == "chat":
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise NotExportable("text that is not stored")
        return messages, body.get("tools") or None
    if not any(body.get(name) for name in ("messages", "input", "prompt")):
        raise NotExportable("text that is not stored")
    if body.get("tools") or not _only_text(body):
        raise NotExportable("tools and parts of another API than chat")
    return [{"role": role, "content": text} for role, text in turns(request)], None


def _check_complete(found: Found) -> None:
    if found["outcome"] != "ok" or found["status"] >= 400:
        raise NotExportable("no complete answer")


def _only_text(body: Mapping[str, Any]) -> bool:
    """Whether each turn is plain text."""
    written = body.get("messages", body.get("input", body.get("prompt")))
    items = written if isinstance(written, list) else [written]
    return all(isinstance(item, str) or (isinstance(item, dict) and _is_text(item.get("content"))) for item in items)


def _is_text(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content)
    return isinstance(content, str)


def _calls(kept: str) -> list[dict[str, Any]]:
    found = orjson.loads(kept)
    return [
        {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}} for c in found
    ]
