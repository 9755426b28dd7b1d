from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config.scorers import ScorerConfig, drawn_as, with_questions_apart


def test_keys_that_are_not_common_are_the_scorers_options() -> None:
    section = ScorerConfig.model_validate(
        {"use": "judge", "share": 0.05, "budget_usd": 5, "model": "referee", "scale": [1, 5]}
    )
    assert (section.share, section.budget_usd) == (0.05, 5.0)
    assert section.options == {"model": "referee", "scale": [1, 5]}


@pytest.mark.parametrize(
    "section", [{"share": 2}, {"deadline_s": 0}, {"concurrency": 0}, {"budget_usd": -1}, {"memory_mb": 1}]
)
def test_limits_out_of_range_are_refused(section: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ScorerConfig.model_validate(section)


def test_a_section_of_questions_becomes_a_scorer_for_each(tmp_path):
    """Plans, guardrails and shares name the questions; the section's own keys hold for all of them."""
    section = {
        "use": "decision",
        "model": "decide",
        "share": 0.25,
        "questions": {"helpful": {"predicate": "It helps."}, "kind": {"predicate": "It is kind."}},
    }
    apart = with_questions_apart({"quality": section, "length": {}, "decision": {"model": "x", "questions": "wrong"}})
    assert list(apart) == ["quality.helpful", "quality.kind", "length", "decision"]
    sections = {name: ScorerConfig(**raw) for name, raw in apart.items()}
    assert {section.share for name, section in sections.items() if name.startswith("quality")} == {0.25}
    assert {drawn_as(name, section) for name, section in sections.items()} == {"quality", "length", "decision"}
