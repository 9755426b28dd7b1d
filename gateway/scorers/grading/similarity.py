"""The metrics of OpenAI's text_similarity grader, except cosine. Pure; each in [0, 1]."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rapidfuzz import fuzz

from gateway.scorers import bleu, rouge_l

MAX_CHARACTERS = 20_000  # of each text that are read
_WORDS = re.compile(r"[a-z0-9]+")
_GLEU_ORDER = 4


def similarity(metric: str, text: str, reference: str) -> float:
    """The similarity of two texts. metric: one of grader_json.Metric except cosine, which needs vectors."""
    text, reference = text[:MAX_CHARACTERS], reference[:MAX_CHARACTERS]
    if metric == "fuzzy_match":
        return float(fuzz.ratio(text, reference)) / 100
    if metric == "bleu":
        words, wanted = bleu.tokenize(text), bleu.tokenize(reference)
        return bleu.bleu(bleu.count_ngrams(words, [wanted]), effective=True)
    if metric == "gleu":
        return gleu(text.split(), reference.split())
    answer, right = _WORDS.findall(text.lower()), _WORDS.findall(reference.lower())
    return rouge_l.f_measure(answer, right) if metric == "rouge_l" else rouge(answer, right, int(metric[-1]))


def rouge(answer: Sequence[str], reference: Sequence[str], n: int) -> float:
    """ROUGE-N (F-measure). Source: Lin, "ROUGE", ACL 2004, section 2."""
    found, wanted = _grams(answer, n), _grams(reference, n)
    every = found.total() + wanted.total()
    return 2 * (found & wanted).total() / every if every else 0.0


def gleu(answer: Sequence[str], reference: Sequence[str]) -> float:
    """The smaller of precision and recall over all n-grams up to 4.

    Source: Wu et al., "Google's Neural Machine Translation System", arXiv:1609.08144, section 4.3.
    """
    both = found = wanted = 0
    for n in range(1, _GLEU_ORDER + 1):
        ours, theirs = _grams(answer, n), _grams(reference, n)
        both += (ours & theirs).total()
        found += ours.total()
        wanted += theirs.total()
    return both / max(found, wanted) if found or wanted else 0.0


def _grams(of: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(of[i:] for i in range(n)), strict=False))
