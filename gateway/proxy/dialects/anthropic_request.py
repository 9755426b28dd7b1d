"""A chat request in Anthropic's words. Pure. What Anthropic cannot say is refused by name, never dropped in silence.

Dropped, because they change no answer's meaning: seed, store, metadata, service_tier, prediction, verbosity and cache
hints; and vLLM's continue_final_message, which is what Anthropic does anyway. Capped: temperature at 1, where
Anthropic's range ends. Members of Anthropic's own API (thinking, top_k, …) pass.
Source: https://platform.claude.com/docs/en/api/messages and …/api/openai-sdk.
"""

from __future__ import annotations

from typing import Any

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.anthropic_messages import messages_of

MAX_TOKENS = 8192  # Anthropic wants a limit; every model of it since 2024 takes this one

_ITS_OWN = frozenset(
    {"thinking", "top_k", "top_p", "output_config", "cache_control", "mcp_servers", "container", "context_management"}
    | {"inference_geo", "speed"}
)
_READ = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "stop"}
    | {
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "user",
        "safety_identifier",
        "reasoning_effort",
        "response_format",
    }
)
_DROPPED = frozenset(
    {"seed", "store", "metadata", "service_tier", "prediction", "verbosity", "prompt_cache_key"}
    | {"prompt_cache_retention", "prompt_cache_options", "continue_final_message", "add_generation_prompt"}
)
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def to_anthropic(asked: dict[str, Any], model: str) -> dict[str, Any]:
    """asked: a chat request's members. Raises BadRequest with the member as param."""
    _refuse(asked)
    system, messages = messages_of(asked["messages"])
    out: dict[str, Any] = {"model": model, "max_tokens": _limit(asked), "messages": messages}
    out |= {name: asked[name] for name in asked if name in _ITS_OWN and asked[name] is not None}
    if system:
        out["system"] = system
    if asked.get("stream"):
        out["stream"] = True
    _sampling(asked, out)
    _tools(asked, out)
    _effort(asked, out)
    _format(asked, out)
    user = asked.get("user") or asked.get("safety_identifier")
    if isinstance(user, str):
        out["metadata"] = {"user_id": user}
    return out


def refused(param: str, why: str = "") -> BadRequest:
    """What to raise for a member that Anthropic has no word for."""
    text = f"\"{param}\" cannot be said to this model's upstream, which speaks Anthropic's Messages API"
    return BadRequest(f"{text}{': ' + why if why else ''}", param=param, code="unsupported_parameter")


def _refuse(asked: dict[str, Any]) -> None:
    if asked.get("n") not in (None, 1):
        raise refused("n", "it gives one choice")
    if asked.get("modalities") not in (None, [], ["text"]):
        raise refused("modalities", "it answers in text")
    for name, value in asked.items():
        known = name in _READ or name in _DROPPED or name in _ITS_OWN or name in ("n", "modalities")
        if not known and value not in (None, False, 0, "", [], {}):
            raise refused(name)


def _limit(asked: dict[str, Any]) -> Any:
    given = asked.get("max_completion_tokens")
    given = asked.get("max_tokens") if given is None else given
    return MAX_TOKENS if given is None else given


def _sampling(asked: dict[str, Any], out: dict[str, Any]) -> None:
    temperature = asked.get("temperature")
    if temperature is not None:
        high = isinstance(temperature, int | float) and temperature > 1
        out["temperature"] = 1 if high else temperature
    stop = asked.get("stop")
    if stop:
        out["stop_sequences"] = [stop] if isinstance(stop, str) else stop


def _tools(asked: dict[str, Any], out: dict[str, Any]) -> None:
    tools = asked.get("tools")
    if not tools:
        return
    out["tools"] = [_tool(tool, at) for at, tool in enumerate(tools)]
    choice = _choice(asked.get("tool_choice"))
    if asked.get("parallel_tool_calls") is False and (choice or {}).get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        out["tool_choice"] = choice


def _tool(tool: Any, at: int) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise refused(f"tools[{at}].type", "only functions can be offered")
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    out = {"name": function.get("name"), "input_schema": schema}
    out |= {name: function[name] for name in ("description", "strict") if function.get(name)}
    return out | {name: tool[name] for name in ("cache_control",) if name in tool}


def _choice(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict):
        return {"type": "tool", "name": function.get("name")}
    raise refused("tool_choice", "expected auto, none, required or one function")


def _effort(asked: dict[str, Any], out: dict[str, Any]) -> None:
    """Effort is Anthropic's own measure since its models choose their thinking themselves; an older model wants
    `thinking` with a budget instead, which the client can give beside the OpenAI members."""
    effort = asked.get("reasoning_effort")
    if effort is None:
        return
    if effort == "none":
        out.setdefault("thinking", {"type": "disabled"})
        return
    if effort not in _EFFORTS:
        raise refused("reasoning_effort", f"expected one of none, {', '.join(_EFFORTS)}")
    out["output_config"] = {"effort": _EFFORTS[effort], **(out.get("output_config") or {})}
    if effort != "minimal":
        out.setdefault("thinking", {"type": "adaptive"})


def _format(asked: dict[str, Any], out: dict[str, Any]) -> None:
    form = asked.get("response_format")
    if form is None or (isinstance(form, dict) and form.get("type") == "text"):
        return
    schema = (form.get("json_schema") or {}).get("schema") if isinstance(form, dict) else None
    if not isinstance(schema, dict):
        raise refused("response_format", "it wants a schema: use type json_schema")
    out["output_config"] = {"format": {"type": "json_schema", "schema": schema}, **(out.get("output_config") or {})}
