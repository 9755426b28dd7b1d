"""Reads the likelihood of a served answer from an engine's `prompt_logprobs`. Pure.

The form is vLLM's: a list next to `choices`, one entry for each token of the prompt, null for the first; an entry maps
token ids to {logprob, rank, decoded_token}: the prompt's own token first, then the most likely ones. The answer is the
end of the prompt, and its tokens are found there by their texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import takewhile
from typing import Any

import orjson

from gateway.core.likelihood import BEST_DIGITS, AnswerLikelihood, AnswerToken, tokens_to_json

LEAST = -100.0
"""Lower bound of log-probabilities: an engine that excludes a token reports −9999, which is not a measurement and would
dominate every mean."""
_PARTIAL = "\ufffd"  # what a token decodes to that holds only some bytes of a character


@dataclass(frozen=True, slots=True)
class PromptLikelihood:
    """likelihood: sums and digests. response: the tokens, as they are recorded."""

    likelihood: AnswerLikelihood
    response: bytes = b""


@dataclass(frozen=True, slots=True)
class _PromptToken:
    id: str
    token: AnswerToken
    best_id: str


class _Refused(Exception):
    """An unusable response; its text is a key of REFUSALS."""


def prompt_likelihood(response: bytes, status: int, answer: str, served: str, key: bytes) -> PromptLikelihood:
    """Reads the likelihood of an answer; never raises. answer: the served text. served: id of its exchange. key: a
    secret of this process, so that an answer cannot be guessed from its digests."""
    try:
        raw = _object(response, status)
        found = answer_tokens(_prompt(raw), answer)
    except _Refused as refused:
        return PromptLikelihood(AnswerLikelihood(refused=str(refused)))
    tokens = [each.token for each in found]
    ids = blake2b(key=key, digest_size=8)
    for each in found:
        ids.update(f"{each.id} {each.token.text}\0".encode("utf-8", "surrogatepass"))
    likelihood = AnswerLikelihood(
        len(tokens),
        -sum(token.logprob for token in tokens),
        sum(token.rank == 1 for token in tokens),
        ids.hexdigest(),
        "".join(_digest(key, f"{served} {place} {each.best_id}") for place, each in enumerate(found)),
    )
    return PromptLikelihood(likelihood, tokens_to_json(tokens, raw.get("usage"), raw.get("model")))


def scored_tokens(response: bytes, status: int, answer: str) -> list[AnswerToken]:
    """The tokens of an answer as an engine scores them; [] if it does not."""
    try:
        return [each.token for each in answer_tokens(_prompt(_object(response, status)), answer)]
    except _Refused:
        return []


def _digest(key: bytes, text: str) -> str:
    return blake2b(text.encode(), key=key, digest_size=BEST_DIGITS // 2).hexdigest()


def _object(response: bytes, status: int) -> Mapping[str, Any]:
    if status != 200:
        raise _Refused("rejected")
    try:
        raw = orjson.loads(response)
    except orjson.JSONDecodeError:
        raise _Refused("no_prompt_logprobs") from None
    if not isinstance(raw, dict):
        raise _Refused("no_prompt_logprobs")
    return raw


def _prompt(raw: Mapping[str, Any]) -> list[_PromptToken]:
    """Every token of the prompt but the first, which has no probability."""
    entries, ids = raw.get("prompt_logprobs"), raw.get("prompt_token_ids")
    if not isinstance(entries, list) or len(entries) < 2:
        raise _Refused("no_prompt_logprobs")
    named = ids if isinstance(ids, list) and len(ids) == len(entries) else [None] * len(entries)
    try:
        return [_token(entry, own) for entry, own in zip(entries[1:], named[1:], strict=True)]
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration):
        raise _Refused("no_prompt_logprobs") from None


def _token(entry: Mapping[str, Any], own: Any) -> _PromptToken:
    """own: the id of the prompt's token, where the engine names it; else it is the entry's first one."""
    id_ = str(own) if own is not None and str(own) in entry else next(iter(entry))
    its = entry[id_]
    best_id = next((other for other, each in entry.items() if each.get("rank") == 1), "")
    best = entry.get(best_id)
    token = AnswerToken(
        its.get("decoded_token") or "",
        max(float(its["logprob"]), LEAST),
        int(its["rank"]),
        "" if best is None else best.get("decoded_token") or "",
        None if best is None else max(float(best["logprob"]), LEAST),
    )
    return _PromptToken(id_, token, best_id)


def answer_tokens(prompt: Sequence[_PromptToken], answer: str) -> list[_PromptToken]:
    """The tokens at the end of the prompt that make the answer, in order. Raises _Refused if it does not end with it.

    Spaces are not compared, since templates remove them at the ends of messages and some tokenizers decode a token
    alone without its space. A token that begins before the answer does is left out: its probability is also that of
    what came before. A token with some bytes of a character decodes to an empty text, or to U+FFFD; a run of the latter
    stands for 1 to as many characters.
    """
    rest = "".join(answer.split())
    if not rest:
        raise _Refused("not_aligned")
    found: list[_PromptToken] = []
    spaces: list[_PromptToken] = []  # they count once a token before them does
    partial = 0
    for each in reversed(prompt):
        text = "".join(each.token.text.split())
        if not text:
            spaces.append(each)
            continue
        if _PARTIAL in text:
            partial += 1
        else:
            if partial:
                rest, partial = _without_partial(rest, text, partial), 0
                if not rest:
                    break
            if not rest.endswith(text):
                if not text.endswith(rest):
                    raise _Refused("not_aligned")
                rest = ""  # this token begins before the answer
                break
            rest = rest[: -len(text)]
        found += [*spaces, each]
        spaces = []
        if not rest:
            break
    if not found or len(rest) > partial:
        raise _Refused("not_aligned")
    found += _first_bytes(prompt[: len(prompt) - len(found)], found[-1].token.text.lstrip())
    found.reverse()
    return found


def _first_bytes(before: Sequence[_PromptToken], first: str) -> list[_PromptToken]:
    """The tokens with the first bytes of the answer's first character, the last one first. vLLM decodes all but the
    last token of a character to an empty text."""
    if not first or first[0].isascii():
        return []
    return list(takewhile(lambda each: not each.token.text, reversed(before)))


def _without_partial(rest: str, before: str, most: int) -> str:
    """The text without the characters at its end that `most` tokens with parts of characters stand for.

    before: the text of the token before them. Raises _Refused if they stand for none. "" if they begin the answer.
    """
    for n in range(1, min(most, len(rest)) + 1):
        if rest[-n].isascii():
            break
        left = rest[:-n]
        if not left or left.endswith(before) or before.endswith(left):
            return left
    raise _Refused("not_aligned")
