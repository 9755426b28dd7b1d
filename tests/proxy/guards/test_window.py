"""A stream's text, however it is cut: what leaves is what a plain answer would be, and no part of a match leaves."""

from __future__ import annotations

import re

import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.privacy import RULES, RedactionPattern
from gateway.proxy.guards.rules import FormRule, PatternRule, SpanRule
from gateway.proxy.guards.search import RuleHits, searched_text
from gateway.proxy.guards.window import CONTEXT, TextWindow, WholeText

FORMS = FormRule(RULES)
STAFF = PatternRule([RedactionPattern(name="staff", regex="EMP-[0-9]{6}")])
A = "Ab3" * 30
SECRETS = [
    "AKIA" + "IOSFODNN7EXAMPLE",
    "sk-" + f"proj-{A[:40]}",
    "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "-----BEGIN RSA PRIVATE" + f" KEY-----\n{A}\n{A}\n-----END RSA PRIVATE" + " KEY-----",
    "password: " + "Tr0ub4dor-and-3",
    "Authorization: Bearer " + A[:30],
    '"client_secret": "a long phrase of blanks and w0rds"',
    "https://user:" + "hunter2hunter2@db.example/x",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "ada.lovelace+1@example.org",
    "+44 20 7946 0958",
    "(555) 010-4477",
]


def released(rule: SpanRule, pieces: list[str], most: int = 8_192, every: int = 1) -> tuple[str, RuleHits]:
    """The text that is released of these pieces, and what was found. every: pieces between two searches."""
    hits = RuleHits(rule, redacts=True)
    window, out, at = TextWindow([hits], most), list[str](), 0
    for i, piece in enumerate(pieces):
        window.add(piece)
        if i % every == 0:
            window.advance(final=False)
        if window.released > at:
            out.append(window.text(at, window.released))
            at = window.released
            window.leave(at)
    window.advance(final=True)
    out.append(window.text(at, window.end))
    return "".join(out), hits


def whole(rule: SpanRule, text: str) -> str:
    return searched_text(text, [RuleHits(rule, redacts=True)])


@pytest.mark.parametrize("secret", SECRETS)
def test_no_part_of_a_secret_leaves_whatever_the_cut(secret: str) -> None:
    text = f"The value that you asked for is {secret} and there is more text after it."
    expected = whole(FORMS, text)
    assert expected != text
    for cut in range(len(text) + 1):
        found, hits = released(FORMS, [text[:cut], text[cut:]])
        assert found == expected, f"cut at {cut}"
        assert hits.matches >= 1
    assert released(FORMS, list(text))[0] == expected


@settings(max_examples=examples(60))
@given(st.lists(st.integers(1, 12), max_size=40), st.sampled_from(SECRETS), st.integers(1, 4))
def test_any_split_gives_what_the_whole_would(sizes: list[int], secret: str, every: int) -> None:
    text = f"First words, then {secret}, then others: EMP-123456. Write to nobody."
    pieces, at = list[str](), 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    assert released(FORMS, [*pieces, text[at:]], every=every)[0] == whole(FORMS, text)


@given(st.lists(st.sampled_from(["EMP", "-", "12", "3456", " ", "x", "EMP-1", "999999", "E"]), max_size=20))
def test_a_pattern_of_the_config_is_never_split(pieces: list[str]) -> None:
    text = "".join(pieces)
    found, hits = released(STAFF, pieces)
    assert found == re.sub("EMP-[0-9]{6}", "[staff]", text)
    assert hits.matches == len(re.findall("EMP-[0-9]{6}", text))


def test_plain_words_are_not_held_longer_than_their_last_word() -> None:
    window = TextWindow([RuleHits(FORMS, redacts=True)], 8_192)
    window.add("Some words without anything in the")
    window.advance(final=False)
    assert window.pending == len("the")


def test_a_text_of_any_length_keeps_a_bounded_memory() -> None:
    window = TextWindow([RuleHits(FORMS, redacts=True)], 1_024)
    for _ in range(400):
        window.add("word " * 40)
        window.advance(final=False)
        window.leave(window.released)
    assert len(window._text) < 8 * CONTEXT


def test_a_key_longer_than_the_window_is_dropped_to_its_end() -> None:
    key = "-----BEGIN RSA PRIVATE" + " KEY-----\n" + f"{A}\n" * 200 + "-----END RSA PRIVATE" + " KEY-----"
    text = f"Here it is:\n{key}\nKeep it safe."
    found, hits = released(FORMS, [text[i : i + 50] for i in range(0, len(text), 50)], most=1_024)
    assert found == "Here it is:\n[key]\nKeep it safe."
    assert hits.matches >= 1


def test_a_word_longer_than_the_window_leaves_if_nothing_matches() -> None:
    blob = "0x" + "ab" * 4_000
    found, hits = released(FORMS, [blob[i : i + 100] for i in range(0, len(blob), 100)], most=1_024)
    assert found == blob
    assert hits.matches == 0


def test_each_match_is_counted_once() -> None:
    text = "Mails: " + " and ".join(f"user{i}@example.org" for i in range(40)) + "."
    _, hits = released(FORMS, [text[i : i + 7] for i in range(0, len(text), 7)])
    assert hits.matches == 40


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"to": "ada@example.org", "n": 1}', '{"to":"[email]","n":1}'),
        ('{"card": 4111111111111111}', '{"card":"[card]"}'),
        ('{"password": "hunter2"}', '{"password":"[secret]"}'),
        ('{"note": "line\\nada@example.org"}', '{"note":"line\\n[email]"}'),
        ('{"to": "nobody"}', '{"to": "nobody"}'),
        ("broken { ada@example.org", "broken { [email]"),
    ],
)
def test_arguments_leave_whole_and_stay_json(arguments: str, expected: str) -> None:
    text = WholeText([RuleHits(FORMS, redacts=True)])
    spans = [text.add(piece) for piece in arguments]
    text.advance(final=False)
    assert text.released == 0
    text.advance(final=True)
    assert "".join(text.text(*span) for span in spans) == expected
