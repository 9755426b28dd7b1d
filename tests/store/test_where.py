"""The language of --where, and its errors."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.store.tables import exchanges, scores
from gateway.store.where import EXCHANGE, SCORE, And, Not, Or, QueryError, Term, parse, terms


def term(field: str, sign: str, value: object) -> Term:
    of_score = field in SCORE
    return Term(field, sign, value, (SCORE if of_score else EXCHANGE)[field], of_score)  # type: ignore[arg-type]


OK, SLOW, FAST = term("outcome", "=", "ok"), term("total_s", ">", 5.0), term("total_s", "<", 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("outcome=ok", OK),
        ("OUTCOME = ok", OK),
        ("outcome='ok'", OK),
        ('outcome = "ok"', OK),
        ("total_s>5 outcome=ok", And((SLOW, OK))),
        ("total_s>5 and outcome=ok", And((SLOW, OK))),
        ("total_s>5 or outcome=ok", Or((SLOW, OK))),
        ("total_s>5 or outcome=ok total_s<1", Or((SLOW, And((OK, FAST))))),
        ("(total_s>5 or total_s<1) outcome=ok", And((Or((SLOW, FAST)), OK))),
        ("not outcome=ok", Not(OK)),
        ("not (outcome=ok or total_s>5)", Not(Or((OK, SLOW)))),
        ("not not outcome=ok", Not(Not(OK))),
        ("scorer=valid_json value<1", And((term("scorer", "=", "valid_json"), term("value", "<", 1.0)))),
        ("stream=true", term("stream", "=", True)),
        ("finish_reason=null", term("finish_reason", "=", None)),
        ("finish_reason='null'", term("finish_reason", "=", "null")),
        ('text~"say \\"no\\" (or)"', term("text", "~", 'say "no" (or)')),
        ("caller=and", term("caller", "=", "and")),
        ("received>=1970-01-02T00:00:00+00:00", term("received", ">=", 86400.0)),
        ("received<100.5", term("received", "<", 100.5)),
        ("tokens!=-1e3", term("tokens", "!=", -1000.0)),
    ],
)
def test_a_query_is_read_as_it_is_meant(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"at 1: expected a comparison, as in scorer=valid_json"),
        ("outcom=ok", r'at 1: no field "outcom"; did you mean "outcome"\?'),
        ("outcome=ok scorr=x", r'at 12: no field "scorr"; did you mean "scorer"\?'),
        ("zzz=1", r'no field "zzz"; known: id, alias, '),
        ("value<one", r"value: expected a number, got 'one'"),
        ("value<nan", r"value: expected a number, got 'nan'"),
        ("stream=yes", r"stream: expected true or false, got 'yes'"),
        ("received>tomorrow", r"received: expected a date, as in 2026-11-01 .*, got 'tomorrow'"),
        ("value~1", r"value~: value \(number\) is compared with = != < <= > >="),
        ("request=x", r"request=: request \(bytes\) is compared with ~ !~"),
        ("stream>true", r"stream>: stream \(truth\) is compared with = !="),
        ("text<null", r"text<: null is compared with = !="),
        ("outcome", r"at 1, 'outcome': expected a comparison"),
        ("outcome=", r"at 1, 'outcome=': expected a comparison"),
        ("outcome=ok)", r"at 11, '\)': a bracket too many"),
        ("(outcome=ok", r"a bracket is not closed"),
        ("outcome=ok or", r"expected a comparison"),
        ("text~'open", r"at 1, .*: expected a comparison"),
        ("outcome=ok; drop table exchanges", r"at 12, 'drop table exchanges': expected a comparison"),
        ("(" * 30 + "outcome=ok" + ")" * 30, r"more than 20 deep"),
        ("not " * 30 + "outcome=ok", r"more than 20 deep"),
        ("pi=1 " * 51, r"more than 50 comparisons"),
        ("text=a\0b", r"at 7: a NUL character"),
        ("x" * 5000, r"5000 characters; at most 4000"),
    ],
)
def test_a_syntax_error_names_its_position_and_the_expected(text, message):
    with pytest.raises(QueryError, match=message):
        parse(text)


def test_every_field_is_a_column_of_the_store():
    assert set(EXCHANGE) <= set(exchanges.columns.keys())
    assert {"status" if f == "score_status" else f for f in SCORE} <= set(scores.columns.keys())
    assert not set(EXCHANGE) & set(SCORE), "a name says of which table it is"


@given(st.text("ao=<>!~()'\"\\ nort1.-_\n", max_size=40))
@example("not(a=1)")
def test_any_text_is_read_or_refused_in_words(text):
    with contextlib.suppress(QueryError):
        assert terms(parse(text))
