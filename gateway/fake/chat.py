"""The answers of chat and completions, plain or streamed, with vLLM's probabilities of a prompt's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from zlib import crc32

import orjson

from gateway.core.json_values import content_text
from gateway.fake.answers import (
    CREATED,
    Delta,
    Event,
    FakeAnswer,
    FakeRequest,
    FakeToolCall,
    StreamDone,
    error,
    streamed,
)
from gateway.fake.speech import ScriptedAnswer, count_words, last_assistant, speech, split


def chat(ask: FakeRequest) -> FakeAnswer:
    scored = ask.vllm and ask.scores.returned and ask.fields.get("prompt_logprobs") is not None
    if scored and ask.stream:
        return error("openai", 400, "`prompt_logprobs` are not available when `stream=True`.", param="prompt_logprobs")
    continues = ask.vllm and ask.fields.get("continue_final_message")
    scripted = speech(ask, last_assistant(ask) if continues else "")
    usage = _usage(count_words(ask.fields["messages"]), scripted.words * ask.choices)
    if ask.stream:
        frame = _frame(ask, "chatcmpl", "chat.completion.chunk")
        return streamed([*_chat_events(ask, scripted, frame), *_ending(ask, frame, usage)])
    message: dict[str, Any] = {"role": "assistant", "content": scripted.text, "refusal": None}
    if scripted.tool:
        message = message | {"content": None, "tool_calls": [_tool_object(scripted.tool)]}
    finish = scripted.finish("stop", "length", "tool_calls")
    logprobs = _logprobs(split(scripted.text), ask) if ask.logprobs else None
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
    choices = [choice | {"index": i} for i in range(ask.choices)]
    more = prompt_logprobs(ask) if scored else {}
    return _plain(ask, "chatcmpl", "chat.completion", choices, usage, scripted, more)


def _chat_events(ask: FakeRequest, scripted: ScriptedAnswer, frame: tuple[bytes, bytes]) -> Iterator[Event]:
    head, tail = frame

    def event(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return head + orjson.dumps(choice) + tail

    choices = range(ask.choices)
    for i in choices:
        yield event(i, {"role": "assistant", "content": None if scripted.tool else ""})
        if scripted.tool:
            yield Delta(event(i, {"tool_calls": [{"index": 0, **_tool_object(scripted.tool, arguments="")}]}))
        for fragment in scripted.fragments():
            yield Delta(event(i, {"tool_calls": [{"index": 0, "function": {"arguments": fragment}}]}))
    for part in scripted.parts:
        if not isinstance(part, str):
            yield part
            continue
        # Built from encoded pieces: with dumps for each event, a benchmark would spend most of its time here.
        content = orjson.dumps(part)
        logprobs = orjson.dumps(_logprobs((part,), ask)) if ask.logprobs else b"null"
        for i in choices:
            lead = b'%b{"index":%d,"delta":{"content":' % (head, i)
            yield Delta(b'%b%b},"logprobs":%b,"finish_reason":null}%b' % (lead, content, logprobs, tail))
    for i in choices:
        yield event(i, {}, scripted.finish("stop", "length", "tool_calls"))


def completions(ask: FakeRequest) -> FakeAnswer:
    scripted, prompt = speech(ask), ask.fields["prompt"]
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    choices = range(ask.choices * prompts)
    usage = _usage(count_words(prompt), scripted.words * len(choices))
    finish = scripted.finish("stop", "length", "stop")
    if not ask.stream:
        choice = {"index": 0, "text": scripted.text, "logprobs": None, "finish_reason": finish}
        return _plain(ask, "cmpl", "text_completion", [choice | {"index": i} for i in choices], usage, scripted)
    head, tail = frame = _frame(ask, "cmpl", "text_completion")

    def event(index: int, text: str, finish: str | None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
        return head + orjson.dumps(choice) + tail

    events: list[Event] = []
    for part in scripted.parts:
        events += [Delta(event(i, part, None)) for i in choices] if isinstance(part, str) else [part]
    events += [event(i, "", finish) for i in choices]
    return streamed([*events, *_ending(ask, frame, usage)])


def _frame(ask: FakeRequest, prefix: str, object_: str) -> tuple[bytes, bytes]:
    """The bytes before and after the choices in every event of one stream."""
    named = {"id": f"{prefix}-fake-{ask.serial}", "object": object_, "created": CREATED, "model": ask.model}
    head = b"data: " + orjson.dumps(named)[:-1] + b',"choices":['
    return head, b'],"usage":null}\n\n' if ask.usage_requested else b"]}\n\n"


def _ending(ask: FakeRequest, frame: tuple[bytes, bytes], usage: dict[str, Any]) -> Iterator[Event]:
    if ask.usage_requested:
        yield b'%b],"usage":%b}\n\n' % (frame[0], orjson.dumps(usage))
    yield StreamDone(b"data: [DONE]\n\n")


def _plain(
    ask: FakeRequest,
    prefix: str,
    object_: str,
    choices: list[Any],
    usage: dict[str, Any],
    scripted: ScriptedAnswer,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> FakeAnswer:
    """more: further members of the answer."""
    named = {"id": f"{prefix}-fake-{ask.serial}", "object": object_, "created": CREATED, "model": ask.model}
    return FakeAnswer(
        orjson.dumps(named | {"choices": choices, "usage": usage, **more}), pauses=scripted.pauses, headers=_orca(ask)
    )


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _tool_object(tool: FakeToolCall, arguments: str | None = None) -> dict[str, Any]:
    function = {"name": tool.name, "arguments": tool.arguments if arguments is None else arguments}
    return {"id": tool.id, "type": "function", "function": function}


def _logprobs(words: Sequence[str], ask: FakeRequest) -> dict[str, Any]:
    """vLLM's are those that it gives the same tokens as a prompt."""
    values = [-0.125] * len(words)
    if ask.vllm:
        first, score = len(_prompt_tokens(ask)), ask.scores.written or ask.scores.logprob
        values = [score(first + at, word) for at, word in enumerate(words)]
    tokens = [{"token": w, "logprob": v, "bytes": list(w.encode())} for w, v in zip(words, values, strict=True)]
    top = bool(ask.fields.get("top_logprobs"))
    return {"content": [t | {"top_logprobs": [t] if top else []} for t in tokens], "refusal": None}


def _orca(ask: FakeRequest) -> tuple[tuple[str, str], ...]:
    """vLLM's load report: a header of plain answers, in the requested format."""
    if not ask.vllm or ask.orca is None or ask.orca.lower() not in {"json", "text"}:
        return ()
    if ask.orca.lower() == "json":
        return (("endpoint-load-metrics", "JSON " + orjson.dumps({"named_metrics": dict(ask.load)}).decode()),)
    return (("endpoint-load-metrics", "TEXT " + ", ".join(f"named_metrics.{k}={v}" for k, v in ask.load.items())),)


_LIKELY = -0.7  # ln ½: above it a token is the most likely one
_VOCABULARY = 49_152


def prompt_logprobs(ask: FakeRequest) -> dict[str, Any]:
    """The members that vLLM adds to a plain answer. The first token of a prompt has no probability."""
    tokens = _prompt_tokens(ask)
    entries = [None, *(_entry(ask, place, text) for place, text in enumerate(tokens[1:], 1))]
    ids = [_id(text) for text in tokens] if ask.fields.get("return_token_ids") else None
    return {"prompt_logprobs": entries, "prompt_token_ids": ids}


def _entry(ask: FakeRequest, place: int, text: str) -> dict[str, Any]:
    """Scores by token id: the prompt's own token, then the most likely one if that is another."""
    logprob = ask.scores.logprob(place, text)
    first = logprob > _LIKELY
    entry = {str(_id(text)): {"logprob": logprob, "rank": 1 if first else 2, "decoded_token": text}}
    if not first and ask.fields["prompt_logprobs"]:
        entry[str(_id(" the"))] = {"logprob": -0.5, "rank": 1, "decoded_token": " the"}
    return entry


def _id(text: str) -> int:
    return crc32(text.encode()) % _VOCABULARY


def _prompt_tokens(ask: FakeRequest) -> list[str]:
    messages, found = ask.fields["messages"], []
    for message in messages:
        text = content_text(message.get("content")).strip()
        found += ["<|im_start|>", message["role"], "\n", *ask.scores.tokenize(text)]
        found += ["<|im_end|>", "\n"]
    if ask.fields.get("continue_final_message"):
        return found[:-2]
    return [*found, "<|im_start|>", "assistant", "\n"] if ask.fields.get("add_generation_prompt", True) else found
