"""What gateway.yaml says of what may be kept: by key, by rule, for how long."""

from __future__ import annotations

import pytest

from gateway.config.loading import parse
from gateway.config.privacy import RedactionConfig, compiled, content_of
from gateway.core.errors import ConfigError

BASE = """
open: true
upstreams: {a: {kind: fake}}
models: {m: {targets: [{upstream: a, model: m}]}}
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse(BASE + text, "f.yaml")
    return str(raised.value).splitlines()


@pytest.mark.parametrize(
    ("own", "redaction", "kept"),
    [
        (None, None, "full"),
        (None, RedactionConfig(), "redacted"),
        (None, RedactionConfig(default="metadata"), "metadata"),
        ("full", RedactionConfig(), "full"),
        ("redacted", None, "redacted"),
        ("metadata", RedactionConfig(default="full"), "metadata"),
    ],
)
def test_a_key_says_it_itself_or_the_section_does(own, redaction, kept):
    assert content_of(own, redaction) == kept


def test_a_section_without_a_word_redacts_by_every_rule():
    config = parse(BASE + "redaction: {}\n")
    assert config.redaction is not None
    assert (config.redaction.default, set(config.redaction.rules)) == (
        "redacted", {"email", "phone", "card", "iban", "key"}
    )  # fmt: skip


def test_a_pattern_that_could_take_for_ever_is_refused_with_its_path():
    (said,) = mistakes("redaction: {patterns: [{name: own, regex: '(?=a)'}]}\n")
    assert said.startswith("f.yaml: redaction.patterns[0]: regex '(?=a)' is none that runs in linear time")


def test_a_rule_with_a_slip_of_the_pen_is_named():
    (said,) = mistakes("redaction: {rules: [emial]}\n")
    assert said.startswith("f.yaml: redaction.rules[0]: input should be 'email', ")
    assert said.endswith("got 'emial'; did you mean \"email\"?")


def test_what_the_store_keeps_has_bounds_that_make_sense():
    store = parse(BASE + "store: {keep_days: 30, max_gb: 5}\n").store
    assert (store.keep_days, store.max_gb) == (30, 5)
    assert len(mistakes("store: {keep_days: 0.5, max_gb: -1, keep_hours: 3}\n")) == 3


def test_an_own_pattern_finds_what_it_says():
    assert compiled(r"TCK-\d{4}").search("see TCK-1234").group() == "TCK-1234"


def test_without_the_library_the_config_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "re2", None)
    with pytest.raises(ValueError, match=r"pip install 'assay-gateway\[redaction\]'"):
        compiled("x")
