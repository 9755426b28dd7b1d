"""Four judges of summaries that need only a model."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigError

NAMES = ("coherence", "consistency", "fluency", "relevance")


@pytest.mark.parametrize("which", NAMES)
async def test_the_judge_has_its_criterion_and_scale(model, subject, which):
    high = 3 if which == "fluency" else 5
    model.says({"reason": "fine", "score": high})
    judge = model.build(use=f"geval_{which}", model="referee")
    result = await model.result(judge, subject("A summary.", {"messages": [{"role": "user", "content": "Long."}]}))
    assert result.score.value == 1.0
    (prompt,) = model.prompts()
    assert f"from 1 (not at all) to {high} (fully)" in prompt
    assert f"criterion: {which[:6]}" in prompt.lower().replace("factual ", "")


async def test_the_four_are_distinguished_and_have_the_options_of_a_judge(model, subject):
    hashes = {model.build(use=f"geval_{which}", model="referee", share=0.5).config_hash for which in NAMES}
    assert len(hashes) == 4
    model.says({"reason": "fine", "score": 10})
    wide = model.build(use="geval_fluency", model="referee", scale=[0, 10], repeats=2)
    assert (await model.result(wide, subject("A summary."))).score.value == 1.0
    assert len(model.bodies) == 2
    pair = model.build(use="geval_relevance", model="referee", kind="pairwise")
    assert hasattr(pair.scorer, "compare")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"criterion": "mine"}, "has its own; use a judge for another criterion"),
        ({"kind": "rubric", "items": ["x"]}, "is pointwise or pairwise, not rubric"),
        ({}, "model: missing"),
    ],
)
def test_a_mismatch_is_refused(model, options, line):
    section = {"model": "referee", **options} if options else {}
    with pytest.raises(ConfigError, match=line):
        model.build(use="geval_fluency", **section)
