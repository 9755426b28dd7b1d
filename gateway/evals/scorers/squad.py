"""How SQuAD compares short answers: without case, punctuation, articles and white space. Pure.

Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", arXiv:1606.05250, section 6.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", _PUNCTUATION.sub("", text.lower())).split()


def f1(answer: list[str], reference: list[str]) -> float:
    """The harmonic mean of the shares of words, counted with their repeats, that both have in common.

    Two texts without words are alike (1); one of them alone is not (0).
    """
    if not answer or not reference:
        return float(answer == reference)
    common = (Counter(answer) & Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference))
