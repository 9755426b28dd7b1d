"""ROUGE-L equals rouge_score without stemming."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from fixtures.rouge_oracle import rouge_oracle
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.score import Skipped
from gateway.scorers.rouge_l import RougeL, f_measure, lcs_length
from gateway.scorers.rouge_n import RougeLsum

RULE = RougeL("rouge_l")
TEXT = st.text(alphabet="ab C1.ü-\n", max_size=60) | st.lists(st.sampled_from(["the", "cat", "sat", "on"])).map(
    " ".join
)


def test_the_number_of_the_design_notes():
    fox = "The quick brown fox jumps over the lazy dog".lower().split()
    dog = "The quick brown dog jumps on the log".lower().split()
    assert lcs_length(dog, fox) == 5
    assert (5 / len(dog), 5 / len(fox)) == (0.625, pytest.approx(0.5556, abs=1e-4))
    assert f_measure(dog, fox) == pytest.approx(0.5882, abs=1e-4)


@pytest.fixture(scope="module")
def rouge_score() -> Iterator[Callable[[str, str], dict[str, float]]]:
    """(reference, answer) → F measure by its name."""
    with rouge_oracle("rougeL") as scored:
        yield scored


@given(TEXT, TEXT)
def test_it_equals_rouge_score(ask, subject, rouge_score, answer, reference):
    score = ask(RULE, subject(answer, None, reference))
    if isinstance(score, Skipped):
        assert not any(c.isascii() and c.isalnum() for c in reference)
    else:
        assert score.value == pytest.approx(rouge_score(reference, answer)["rougeL"])


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_bits_find_what_the_table_finds(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert lcs_length(a, b) == table[-1][-1]


@pytest.mark.parametrize("rule", [RULE, RougeLsum("rouge_lsum")])
@pytest.mark.parametrize("end", [" ", "\n"])
def test_the_work_is_bounded_in_words(ask, subject, rule, end: str) -> None:
    """The work is the product of the words of both texts: 100 000 characters may hold 50 000."""
    first = "a " * 19_000 + end + "a " * 1_000
    assert ask(rule, subject(first + "b " * 20_000, None, first + "c " * 20_000)).value == 1.0
    assert ask(rule, subject("a " * 19_999 + "b", None, "a " * 19_999 + "c")).value == pytest.approx(1 - 1 / 20_000)


def test_a_length_takes_the_memory_of_one_row() -> None:
    """A list of the rows of these texts would take 12 MB."""
    a, b = (["a", "b", "c"] * 3_300, ["a", "c", "b"] * 3_300)
    tracemalloc.start()
    try:
        assert lcs_length(a, b) >= 6_600
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
