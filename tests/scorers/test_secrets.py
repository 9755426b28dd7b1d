"""Secrets in an answer are counted by kind and never repeated."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Score, Skipped
from gateway.core.secret_patterns import KINDS, luhn, mod97
from gateway.scorers.secrets import Secrets, find_kinds

RULE = Secrets("secrets")
MAIL = "ada@example.org"


def test_the_explanation_names_kinds_and_never_the_secrets(ask, subject):
    score = ask(RULE, subject(f"Write to {MAIL} or bob@example.org, card 4111 1111 1111 1111."))
    assert score == Score(1.0, "card+email", "found 1 card, 2 email", {"card": 1.0, "email": 2.0})


def test_arguments_of_calls_are_read_too(ask, subject):
    call = Completion(tool_calls=(ToolCall("1", "send", f'{{"to": "{MAIL}"}}'),))
    assert ask(RULE, subject(call)).label == "email"


@pytest.mark.parametrize(("kinds", "value"), [(("email",), 1.0), (("card", "key"), 0.0), ((), 0.0)])
def test_only_the_chosen_kinds_count(ask, subject, kinds, value):
    assert ask(Secrets("secrets", kinds=kinds), subject(MAIL)).value == value


def test_a_failed_call_holds_nothing(ask, subject):
    assert isinstance(ask(RULE, subject(Completion(error=MAIL), status=500)), Skipped)


ALL = tuple(KINDS)
A = "Ab3" * 30  # concatenated, so that secret scanners do not report this file
FOUND = {
    "key": [
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp" + f"_{A[:36]}",
        "github_pat" + f"_{A[:70]}",
        "glpat" + f"-{A[:20]}",
        "sk" + f"-{A[:48]}",
        "sk-ant-api03" + f"-{A[:80]}",
        "sk_live" + f"_{A[:24]}",
        "AIza" + A[:35],
        "xoxb" + f"-123456789012-{A[:24]}",
        "hf" + f"_{A[:34]}",
        "npm" + f"_{A[:36]}",
        "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    ],
    "private_key": [
        "-----BEGIN PRIVATE" + " KEY-----",
        "-----BEGIN OPENSSH PRIVATE" + " KEY-----",
        "-----BEGIN PGP PRIVATE" + " KEY BLOCK-----",
    ],
    "card": ["4111111111111111", "5500-0000-0000-0004", "3782 822463 10005", "6011 1111 1111 1117"],
    "iban": ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606", "NO9386011117947"],
    "email": ["a@example.org", "first.last+tag@mail.example.co.uk", "x_y%z@a-b.example"],
    "phone": [
        "+1 555 010 9999",
        "+49 30 901820",
        "+33 1 42 68 53 00",
        "(555) 010-4477",
        "555-010-4477",
        "+442079460958",
    ],
}
CLEAN = [
    "4111111111111112",  # Luhn is wrong
    "1234567890123456",
    "4111 1111",
    "DE88370400440532013000",  # check digits are wrong
    "ISO 8601: 2026-01-02T10:30:00Z",
    "192.168.100.200",
    "pi is 3.14159265358979",
    "order 555-010-44771, page 12-13",
    "me@localhost",
    "@decorator and a@b",
    "sk-learn and risk-averse people",
    "-----BEGIN PUBLIC KEY-----",
    "550e8400-e29b-41d4-a716-446655440000",
    "0000 0000 0000 0000",
    "a" * 500,
]


@pytest.mark.parametrize(("kind", "text"), [(k, t) for k, texts in FOUND.items() for t in texts])
def test_each_form_is_found_alone_and_in_a_sentence(kind, text):
    for around in (text, f"It is {text}.", f'"{text}"', f"({text})", f"- {text}\n- next"):
        assert list(find_kinds(around, ALL)) == [kind], around


@pytest.mark.parametrize("text", CLEAN)
def test_lookalikes_are_not_found(text):
    assert list(find_kinds(text, ALL)) == []


def test_each_is_counted():
    assert sorted(find_kinds("a@b.example, c@d.example and 4111111111111111", ALL)) == ["card", "email", "email"]


@given(st.integers(10**11, 10**17))
def test_one_last_digit_in_ten_satisfies_luhn(body):
    assert sum(luhn(f"{body}{d}") for d in range(10)) == 1


@given(st.integers(0, 10**17))
def test_one_pair_of_check_digits_satisfies_mod_97(account):
    assert sum(mod97(f"DE{check:02d}{account:018d}") for check in range(2, 99)) == 1


HOSTILE = [
    "a" * 200_000,
    "1" * 200_000,
    "a@" * 100_000,
    "+1 " * 66_000,
    "AA11 " * 40_000,
    "1-" * 100_000,
    "a." * 100_000,
]
HOSTILE += ["x@" + "a." * 100_000, "eyJ" + "a" * 200_000, "sk-" * 60_000, "eyJaaaaaaaaaaaa." * 12_000, "4 " * 100_000]
HOSTILE += ["-----BEGIN " + "AA " * 60_000, "(555) " * 30_000, "A" * 100_000 + "@", "DE11" + "A" * 200_000]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: t[:8])
def test_two_hundred_kilobytes_take_linear_time(text):
    began = time.thread_time()
    list(find_kinds(text, ALL))
    assert time.thread_time() - began < 2
