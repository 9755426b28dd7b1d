from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from gateway.config.privacy import RULES, RedactionConfig, compile_pattern


def test_an_empty_section_redacts_by_every_rule() -> None:
    section = RedactionConfig.model_validate({})
    assert (section.default, set(section.rules)) == ("redacted", {"email", "phone", "card", "iban", "key"})
    assert section.rules == RULES


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([{"name": "own", "regex": "(?=a)"}], r"'\(\?=a\)' is not valid in RE2, which runs in linear time"),
        ([{"name": "own", "regex": "a*"}], "matches the empty text"),
        ([{"name": "email", "regex": "a"}], "name email is the name of a built-in rule"),
        ([{"name": "own", "regex": "a"}, {"name": "own", "regex": "b"}], "duplicate name own"),
        ([{"name": "Own", "regex": "a"}], "name"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(patterns: list[dict[str, str]], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        RedactionConfig.model_validate({"patterns": patterns})


def test_a_pattern_is_compiled_by_re2() -> None:
    assert compile_pattern(r"TCK-\d{4}").search("see TCK-1234").group() == "TCK-1234"


def test_the_error_without_re2_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ValueError, match=r'pip install "assay-gateway\[redaction\]"'):
        compile_pattern("x")
