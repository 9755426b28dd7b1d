"""A judge's expected score, from the probabilities of the token that holds its score. Pure.

Source: Liu et al., "G-Eval: NLG Evaluation using GPT-4 with Better Human Alignment", arXiv:2303.16634, section 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MIN_MASS = 0.5  # total probability of scores; below it, this token does not decide the score


def distribution(tokens: Sequence[Any], key: str, low: int, high: int) -> dict[str, float] | None:
    """Score → probability, over the scores among the top tokens; the sum is 1.

    tokens: `choices[0].logprobs.content`. None: they lack the digit after the last "key": or its alternatives, or the
    scale has numbers of two digits.
    """
    if not (0 <= low < high <= 9):
        return None
    alternatives = _alternatives(tokens, key)
    masses: dict[str, float] = {}
    for each in alternatives:
        token, logprob = str(each.get("token", "")).strip(' "'), each.get("logprob")
        if token.isdigit() and len(token) == 1 and low <= int(token) <= high and isinstance(logprob, int | float):
            masses[token] = masses.get(token, 0.0) + math.exp(min(0.0, logprob))
    mass = sum(masses.values())
    if mass < MIN_MASS:
        return None
    return {score: p / mass for score, p in sorted(masses.items())}


def expected(weights: Mapping[str, float]) -> float:
    return sum(int(score) * p for score, p in weights.items())


def _alternatives(tokens: Sequence[Any], key: str) -> list[Mapping[str, Any]]:
    """The top tokens at the position of the score."""
    entries = [t for t in tokens if isinstance(t, dict)]
    pieces = [str(t.get("token", "")) for t in entries]
    text = "".join(pieces)
    matches = list(re.finditer(rf'(?<!\\)"{re.escape(key)}"\s*:\s*"?(\d)(?!\d|\.\d)', text))
    if not matches:
        return []
    position, at = matches[-1].start(1), 0
    for token, piece in zip(entries, pieces, strict=True):
        if at <= position < at + len(piece):
            top = token.get("top_logprobs")
            return [t for t in top if isinstance(t, dict)] if isinstance(top, list) else []
        at += len(piece)
    return []
