"""Options are checked against what a class takes, strictly and all at once."""

from __future__ import annotations

import pytest

from gateway.scoring.options import InvalidOptions, construct


class Takes:
    def __init__(self, name: str, words: tuple[str, ...], limit: float = 1.0, most: int | None = None) -> None:
        self.name, self.words, self.limit, self.most = name, words, limit, most


def lines(kind, **options):
    with pytest.raises(InvalidOptions) as caught:
        construct(kind, "n", options)
    return list(caught.value.lines)


def test_lists_do_for_tuples_and_whole_numbers_for_floats():
    made = construct(Takes, "n", {"words": ["a", "b"], "limit": 3, "most": None})
    assert (made.name, made.words, made.limit, made.most) == ("n", ("a", "b"), 3.0, None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [".words: missing; it must be given"]),
        ({"words": "a"}, [".words: input should be a valid array, got 'a'"]),
        ({"words": ["a", 1]}, [".words[1]: input should be a valid string"]),
        ({"words": [], "limit": "3"}, [".limit: input should be a valid number, got '3'"]),
        ({"words": [], "limit": True}, [".limit: input should be a valid number, got True"]),
        ({"words": [], "limt": 3}, ['.limt: unknown option; did you mean "limit"?']),
        ({"words": [], "xyz": 3}, [".xyz: unknown option; it takes words, limit, most"]),
        ({"words": [], "deadlne_s": 3}, ['.deadlne_s: unknown option; did you mean "deadline_s"?']),
        ({"words": [], "name": "m"}, [".name: unknown option; it takes words, limit, most"]),
    ],
)
def test_every_kind_of_mistake_says_what_was_expected(options, expected):
    assert lines(Takes, **options) == expected


def test_several_mistakes_come_together():
    assert len(lines(Takes, limit="x", most=1.5, other=1)) >= 3


class Untold:
    def __init__(self, limit: "Nowhere" = 1) -> None:  # noqa: F821, UP037 - a type that cannot be found
        self.limit = limit


def test_a_type_that_cannot_be_found_is_not_checked():
    assert construct(Untold, "n", {"limit": "anything"}).limit == "anything"


class Calls:
    def __init__(self, name: str, headers: dict[str, str], api_key: str, max_tokens: int) -> None: ...


def test_no_secret_is_shown_in_a_mistake():
    found = lines(Calls, headers="Bearer sk-secret", api_key=12345678, max_tokens="9")
    assert found == [
        ".headers: input should be an object",
        ".api_key: input should be a valid string",
        ".max_tokens: input should be a valid integer, got '9'",
    ]
