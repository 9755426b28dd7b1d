from __future__ import annotations

from typing import Any

import pytest

from gateway.config.checks.accepted_certificates import certificate_mistakes
from gateway.config.config import Config

SMALL = "up/small[decision]"


def mistakes_of(names: tuple[str, ...] = ("refund",), **options: Any) -> list[str]:
    scorer = {"use": "decided", "question": {"predicate": "Money back?"}, "target": SMALL, **options}
    certificates = {"refund": {"scorer": "refund"}, "other": {"scorer": "words"}}
    config = Config.model_validate(
        {
            "upstreams": {"up": {"kind": "openai", "api_key": "k"}},
            "models": {"chat": {"targets": [{"upstream": "up", "model": "large"}]}},
            "scorers": {"refund": scorer, "words": {"use": "regex", "pattern": "a"}},
            "decisions": {"certificates": certificates},
        }
    )
    return list(certificate_mistakes("at", names, SMALL, config))


def test_a_certificate_of_the_targets_own_answers_may_be_obeyed() -> None:
    assert mistakes_of() == []
    assert mistakes_of(()) == []


@pytest.mark.parametrize(("mistakes", "text"), [
    (mistakes_of(("refnd",)), 'at.accept: no certificate "refnd"; did you mean "refund"'),
    (mistakes_of(("other",)), 'at.accept: certificate "other" is not about answers of decisions'),
    (mistakes_of(target="up/small"), f"is about up/small, and {SMALL} answers; name it as the scorer's `target`"),
    (mistakes_of(target=""), "is about the answers of all targets"),
    (mistakes_of(reading="slot"), "is about the reading slot, and the answers have native"),
])  # fmt: skip
def test_a_certificate_of_other_answers_is_refused(mistakes: list[str], text: str) -> None:
    [mistake] = mistakes
    assert text in mistake
