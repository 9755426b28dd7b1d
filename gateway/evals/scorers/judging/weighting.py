"""The score a judge would give on average, from the probabilities of the token in which it gave its score. Pure.

Source: Liu et al., "G-Eval: NLG Evaluation using GPT-4 with Better Human Alignment", arXiv:2303.16634, section 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

LEAST_MASS = 0.5  # of the probabilities on scores at all; below it, the token was not where the score is decided


def distribution(tokens: Sequence[Any], key: str, low: int, high: int) -> dict[str, float] | None:
    """score → probability, over the scores that stand among the top tokens, adding up to 1.

    tokens: `choices[0].logprobs.content`. None: they do not show the digit after the last "key": , or give no
    alternatives for it, or the scale has numbers of two digits.
    """
    if not (0 <= low < high <= 9):
        return None
    alternatives = _alternatives(tokens, key)
    masses: dict[str, float] = {}
    for each in alternatives:
        said, logprob = str(each.get("token", "")).strip(' "'), each.get("logprob")
        if said.isdigit() and len(said) == 1 and low <= int(said) <= high and isinstance(logprob, int | float):
            masses[said] = masses.get(said, 0.0) + math.exp(min(0.0, logprob))
    mass = sum(masses.values())
    if mass < LEAST_MASS:
        return None
    return {score: p / mass for score, p in sorted(masses.items())}


def expected(weights: Mapping[str, float]) -> float:
    return sum(int(score) * p for score, p in weights.items())


def _alternatives(tokens: Sequence[Any], key: str) -> list[Mapping[str, Any]]:
    """The top tokens at the place where the score stands."""
    said = [t for t in tokens if isinstance(t, dict)]
    pieces = [str(t.get("token", "")) for t in said]
    text = "".join(pieces)
    matches = list(re.finditer(rf'(?<!\\)"{re.escape(key)}"\s*:\s*"?(\d)(?!\d|\.\d)', text))
    if not matches:
        return []
    place, at = matches[-1].start(1), 0
    for token, piece in zip(said, pieces, strict=True):
        if at <= place < at + len(piece):
            top = token.get("top_logprobs")
            return [t for t in top if isinstance(t, dict)] if isinstance(top, list) else []
        at += len(piece)
    return []
