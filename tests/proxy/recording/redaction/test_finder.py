"""The built-in forms and users' own patterns find all their matches in a text, in linear time."""

from __future__ import annotations

import runpy
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.config.privacy import RedactionConfig
from gateway.proxy.recording.redaction.finder import FORMS, Finder, Match, merge_overlaps, says_secret, unfinished


def own(regex: str, **more: str) -> Finder:
    return Finder(RedactionConfig.model_validate({"rules": [], "patterns": [{"name": "own", "regex": regex, **more}]}))


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from("abc")), max_size=8)


@given(spans)
def test_merged_hits_cover_everything_found(found):
    hits = [Match(start, start + size, rule, f"[{rule}]") for start, size, rule in found]
    output = merge_overlaps(hits)
    assert all(a.end <= b.start for a, b in pairwise(output))
    assert {i for h in output for i in range(h.start, h.end)} == {i for h in hits for i in range(h.start, h.end)}


def test_the_longest_of_overlapping_hits_gives_its_name():
    hits = [Match(0, 3, "a", "A"), Match(2, 9, "b", "B"), Match(8, 10, "c", "C")]
    assert merge_overlaps(hits) == [Match(0, 10, "b", "B")]


@pytest.mark.parametrize(
    ("regex", "output"),
    [("(?=x)", "linear time"), (r"(a)\1", "linear time"), ("(", "linear time"), ("x*", "matches the empty text"),
     ("(a{1000}){1000}", "linear time")],
)  # fmt: skip
def test_a_pattern_that_is_not_linear_is_refused(regex, output):
    with pytest.raises(ValidationError, match=output):
        own(regex)


def test_a_catastrophic_pattern_runs_in_linear_time():
    began = time.thread_time()
    list(own("(a+)+$").hits("a" * 200_000 + "b"))
    assert time.thread_time() - began < 1


def test_places_are_counted_in_characters_not_in_bytes():
    *_, hits = own(r"\d+").hits("zoë 日本 12 and 345")
    assert [(h.start, h.end) for h in hits] == [(7, 9), (14, 17)]


def test_names_are_given_once_and_are_not_rules():
    for patterns in ([{"name": "email", "regex": "x"}], [{"name": "a", "regex": "x"}, {"name": "a", "regex": "y"}]):
        with pytest.raises(ValidationError, match=r"choose another|duplicate name"):
            RedactionConfig.model_validate({"patterns": patterns})


PLANTED = runpy.run_path(str(Path(__file__).parent / "planted.py"))
ALL, A = PLANTED["ALL"], PLANTED["A"]

AROUND = [
    "{}",
    "It is {}.",
    '"{}"',
    "({})",
    "- {}\n- next",
    "a={};b",
    "see {}, or call",
    "<b>{}</b>",
    "日本{}語",
    "{}\x00",
]
CLEAN = [
    "4111111111111112", "1234567890123456", "4111 1111", "DE88370400440532013000", "192.168.100.200", "me@localhost",
    "ISO 8601: 2026-01-02T10:30:00Z", "pi is 3.14159265358979", "@decorator and a@b", "sk-learn and risk-averse people",
    "-----BEGIN PUBLIC KEY-----", "550e8400-e29b-41d4-a716-446655440000", "0000 0000 0000 0000", "a" * 500,
    "01-02-2026", "01/02/2026 10:30", "in 2025 and 2026, 12,345,678 people", "1 000 000 000", "0.7071067811865476",
    "max_tokens: 4096", "the secret: to be kind", "chapter 10.2.3", "f(a, b) = c", "1700000000",
    "task-oriented-dialogue",
    "seeds 101 102 103 104", "version 2026.11.25", "10.1000/182", "ISBN 978-3-16-148410-0",
]  # fmt: skip


def found(text: str) -> list[tuple[str, str]]:
    return [(rule, text[s:e]) for rule, form in FORMS.items() for s, e in form(text, 0, len(text))]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize(("rule", "secret"), ALL)
def test_each_form_is_found_in_whatever_stands_around_it(rule: str, secret: str, around: str) -> None:
    text = around.format(secret)
    covered = {i for form in FORMS.values() for s, e in form(text, 0, len(text)) for i in range(s, e)}
    at = text.index(secret)
    assert covered >= set(range(at, at + len(secret))), found(text)
    assert rule in dict(found(text))


@pytest.mark.parametrize("text", CLEAN)
def test_values_that_only_look_alike_are_left(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: hunter22", "hunter22"),
        ('{"api_key": "0123abcd"}', "0123abcd"),
        ("export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
        ("postgres://me:s3cr3t@db.example/x", "s3cr3t"),
        ('\\"client_secret\\": \\"abcdef\\"', "abcdef"),
        ("mailto:ada%40example.org", "ada%40example.org"),
    ],
)
def test_a_value_that_is_named_a_secret_is_one(text: str, secret: str) -> None:
    assert any(secret in output for _, output in found(text)), found(text)


NAMES = [
    "apikey",
    "apikeys",
    "secretkey",
    "accesskeyid",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "PWD",
    "authtoken",
    "Authorization",
    "credential",
    "credentials",
    "passwort",
    "kennwort",
    "motdepasse",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", ["=", ":"])
def test_every_name_of_a_secret_is_seen_before_its_sign(name: str, sign: str) -> None:
    """Signs behind other letters are passed over without a look at the name, which may be in parts and quoted."""
    for at in range(len(name)):
        for apart in ("", "-", "_", "--"):
            for quotes in ("", '"', " ", "' ", '\\"\t '):
                text = f"{name[:at]}{apart}{name[at:]}{quotes}{sign}Abc12345"
                assert ("key", "Abc12345") in found(text), text


def test_a_card_is_found_before_the_numbers_that_follow_it() -> None:
    assert ("card", "4111 1111 1111 1111") in found("card 4111 1111 1111 1111 03 29 123")
    assert ("card", "4111111111111111") in found("4111111111111111 4242")


def test_an_iban_is_found_before_following_words() -> None:
    assert ("iban", "GB82 WEST 1234 5698 7654 32") in found("GB82 WEST 1234 5698 7654 32 THEN MORE")


def test_a_private_key_is_found_to_its_end() -> None:
    block = "-----BEGIN PRIVATE" + f" KEY-----\n{A}\n"
    assert found(f"x {block}-----END PRIVATE KEY----- y") == [("key", f"{block}-----END PRIVATE KEY-----")]
    assert found(f"x {block}") == [("key", block)]


@given(st.integers(0, 30), st.integers(1, 60))
def test_windows_find_together_what_one_finds(at: int, size: int) -> None:
    secret = "4111 1111 1111 1111, ada@example.org, GB82WEST12345698765432 and +44 20 7946 0958"
    text = "x" * at + " " + secret + " and so on"
    whole = {i for _, form in FORMS.items() for s, e in form(text, 0, len(text)) for i in range(s, e)}
    parts = {
        i for low in range(0, len(text), size) for form in FORMS.values()
        for s, e in form(text, low, min(len(text), low + size)) for i in range(s, e)
    }  # fmt: skip
    assert parts >= whole


HOSTILE = [
    "a" * 200_000, "1" * 200_000, "a@" * 100_000, "+1 " * 66_000, "AA11 " * 40_000, "1-" * 100_000, "a." * 100_000,
    "x@" + "a." * 100_000, "eyJ" + "a" * 200_000, "sk-" * 60_000, "eyJaaaaaaaaaaaa." * 12_000, "4 " * 100_000,
    "-----BEGIN " + "AA " * 60_000, "(555) " * 30_000, "A" * 100_000 + "@", "DE11" + "A" * 200_000, "eyJ-" * 50_000,
    ("-----BEGIN PRIVATE" + " KEY-----") * 7_000, "password=" * 20_000, "://" * 60_000, "Bearer " * 30_000,
    "%40" * 60_000, "4111 " * 40_000, "_sk-" * 50_000, "AA11" * 50_000, "hf_" * 60_000, "github_pat_" * 18_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: t[:12])
def test_two_hundred_kilobytes_take_linear_time(text: str) -> None:
    began = time.thread_time()
    for low in range(0, len(text), 8192):
        for form in FORMS.values():
            list(form(text, low, min(len(text), low + 8192)))
    unfinished(text)
    assert time.thread_time() - began < 4


@pytest.mark.parametrize(("rule", "secret"), ALL)
def test_a_text_that_was_cut_in_the_midst_of_one_ends_before_it(rule: str, secret: str) -> None:
    """The rest is at most what could be anything: a few letters before an @, three digits."""
    for end in range(1, len(secret)):
        text = f"it is {secret[:end]}"
        kept = text[: unfinished(text)]
        covered = [(s, e) for form in FORMS.values() for s, e in form(text, 0, len(text))]
        for s, e in reversed(covered):
            kept = kept[:s] + kept[e:] if s < len(kept) else kept
        rest = kept.removeprefix("it is")
        assert sum(c.isdigit() for c in rest) <= 5, (secret[:end], kept)
        assert len(rest.strip()) <= (40 if rule == "email" else 12), (secret[:end], kept)


@pytest.mark.parametrize("text", ["all is well.", "", "see section 3", "and so on ", "what is a key?"])
def test_a_text_that_was_cut_elsewhere_is_kept_whole(text: str) -> None:
    assert unfinished(text) == len(text)


@pytest.mark.parametrize(("name", "secret"), [
    ("password", True), ("api_key", True), ("apiKey", True), ("X-Api-Key", True), ("aws_secret_access_key", True),
    ("client-secret", True), ("max_tokens", False), ("content", False), ("", False), ("keys", False),
])  # fmt: skip
def test_the_names_of_members_that_hold_secrets(name: str, secret: bool) -> None:
    assert says_secret(name) is secret
