"""What vLLM says about the tokens of a prompt (`prompt_logprobs`), for a chat with a template like ChatML's."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from gateway.core.json_values import content_text
from gateway.fake.answers import FakeRequest

_LIKELY = -0.7  # ln ½: above it a token is the most likely one
_VOCABULARY = 49_152


def prompt_logprobs(ask: FakeRequest) -> dict[str, Any]:
    """The members that vLLM adds to a plain answer. The first token of a prompt has no probability."""
    tokens = _prompt_tokens(ask)
    entries = [None, *(_entry(ask, place, text) for place, text in enumerate(tokens[1:], 1))]
    ids = [_id(text) for text in tokens] if ask.fields.get("return_token_ids") else None
    return {"prompt_logprobs": entries, "prompt_token_ids": ids}


def _entry(ask: FakeRequest, place: int, text: str) -> dict[str, Any]:
    """By token id: the prompt's own token, then the most likely one if that is another."""
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
