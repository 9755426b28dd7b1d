"""ROUGE-1, ROUGE-2 and ROUGE-Lsum equal rouge_score without stemming."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fixtures.rouge_oracle import rouge_oracle
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.score import Skipped
from gateway.scorers.rouge_n import Rouge1, Rouge2, RougeLsum, common_positions

RULES = {"rouge1": Rouge1("r"), "rouge2": Rouge2("r"), "rougeLsum": RougeLsum("r")}
WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "\n", "mat", "ü"]), max_size=24).map(" ".join)
TEXT = st.text(alphabet="ab C1.ü-\n", max_size=60) | WORDS


@pytest.fixture(scope="module")
def rouge_score() -> Iterator[Callable[[str, str], dict[str, float]]]:
    """(reference, answer) → F measure by its name."""
    with rouge_oracle("rouge1", "rouge2", "rougeLsum") as scored:
        yield scored


@given(TEXT, TEXT)
def test_they_equal_rouge_score(ask, subject, rouge_score, answer, reference):
    expected = rouge_score(reference, answer)
    for name, rule in RULES.items():
        score = ask(rule, subject(answer, None, reference))
        if isinstance(score, Skipped):
            assert not any(c.isascii() and c.isalnum() for c in reference)
        else:
            assert score.value == pytest.approx(expected[name]), name


@given(st.lists(st.sampled_from("abc"), max_size=14), st.lists(st.sampled_from("abc"), max_size=14))
def test_bits_trace_the_subsequence_of_the_table(a, b):
    t = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            t[i + 1][j + 1] = t[i][j] + 1 if x == y else max(t[i][j + 1], t[i + 1][j])
    traced, i, j = set(), len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            traced.add(i)
        elif t[i][j - 1] > t[i - 1][j]:
            j -= 1
        else:
            i -= 1
    assert common_positions(a, b) == traced


def test_thousands_of_lines_end(ask, subject):
    """Line by line it would take an hour: what follows the hundredth is one line."""
    text = "\n".join(str(i) for i in range(6_000))
    assert ask(RougeLsum("r"), subject(text, None, text)).value == 1
