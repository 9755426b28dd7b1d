from __future__ import annotations

from gateway.core.did_you_mean import did_you_mean


def test_a_similar_name_is_suggested() -> None:
    assert did_you_mean("opnai", ["anthropic", "openai"]) == '; did you mean "openai"?'


def test_only_the_most_similar_name_is_suggested() -> None:
    assert did_you_mean("chat", ["chat-large", "chats"]) == '; did you mean "chats"?'


def test_nothing_is_suggested_when_no_name_is_similar() -> None:
    assert did_you_mean("opnai", ["vllm", "chat"]) == ""
    assert did_you_mean("opnai", []) == ""


def test_keys_that_are_not_strings_are_compared_as_text() -> None:
    assert did_you_mean("80", [8080, 80]) == '; did you mean "80"?'
