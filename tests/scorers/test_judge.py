"""The judge of single answers: what each kind asks, and what it makes of the verdict."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.completion import Completion, ToolCall
from gateway.core.errors import ConfigError
from gateway.fake import HOLD, FakeAnswer
from gateway.scoring.gate import MAX_TIMEOUTS
from gateway.scoring.registry import build_all
from gateway.scoring.types import RunCall, RunStep, RunSubject

QUESTION = {"messages": [{"role": "system", "content": "The sky is green."}, {"role": "user", "content": "Colour?"}]}


async def test_a_score_on_the_scale_becomes_a_value_between_0_and_1(model, subject):
    judge = model.build(use="judge", model="referee", criterion="It is a colour.", scale=[1, 5])
    model.says({"reason": "it is", "score": 4})
    result = await model.result(judge, subject("blue", QUESTION))
    assert (result.status, result.score.value, result.score.label) == ("scored", 0.75, "4 of 5")
    assert (result.explanation, result.spent.tokens, result.spent.judge_model) == ("it is", 110, "up/judge-1")
    assert math.isclose(result.spent.cost_usd, 110e-6)
    (body,) = model.bodies
    assert (body["model"], body["temperature"], body["seed"]) == ("referee", 0.0, 0)
    assert body["response_format"]["type"] == "json_schema"
    prompt = body["messages"][1]["content"]
    assert "Criterion: It is a colour." in prompt
    assert "from 1 to 5" in prompt
    assert "[user]\nColour?" in prompt
    assert "blue" in prompt


async def test_with_logprobs_the_score_is_the_mean(model, subject):
    """G-Eval: ¾ on 4 and ¼ on 2 is 3.5, although the model wrote 4."""
    judge = model.build(use="judge", model="referee", scale=[1, 5])
    tops = [{"token": t, "logprob": math.log(p)} for t, p in (("4", 0.6), ("2", 0.2), ("x", 0.2))]
    model.logprobs = [{"token": '{"score": '}, {"token": "4", "top_logprobs": tops}, {"token": "}"}]
    model.says('{"score": 4}')
    result = await model.result(judge, subject("blue"))
    assert math.isclose(result.score.value, (3.5 - 1) / 4)
    assert {k: round(p, 6) for k, p in result.score.distribution.items()} == {"2": 0.25, "4": 0.75}
    assert model.bodies[0]["top_logprobs"] == 20

    plain = model.build(use="judge", model="referee", scale=[1, 5], weighted=False)
    assert (await model.result(plain, subject("blue"))).score.value == 0.75
    assert "top_logprobs" not in model.bodies[1]


async def test_repeats_give_a_mean_with_its_standard_error(model, subject):
    judge = model.build(use="judge", model="referee", repeats=4)
    model.says(*({"score": s} for s in (1, 3, 5, 3)))
    score = (await model.result(judge, subject("blue"))).score
    assert (score.value, score.detail["repeats"]) == (0.5, 4)
    assert math.isclose(score.standard_error, math.sqrt((0.25 + 0.25) / 3 / 4))
    assert [b["seed"] for b in model.bodies] == [0, 1, 2, 3]
    assert {b["temperature"] for b in model.bodies} == {1.0}


async def test_a_rubric_is_the_weight_of_what_is_as_wanted(model, subject):
    items = [{"ask": "It names a city.", "weight": 3}, {"ask": "It is rude.", "weight": -1}, "It is short."]
    judge = model.build(use="judge", kind="rubric", model="referee", items=items)
    model.says({"items": [{"met": True}, {"met": True}, {"met": "yes"}]})
    result = await model.result(judge, subject("Rome, you fool"))
    assert math.isclose(result.score.value, (3 + 1) / 5)
    assert (result.score.label, result.explanation) == ("2 of 3", "not as wanted: It is rude.")
    assert "1. It names a city.\n2. It is rude.\n3. It is short." in model.prompts()[0]


async def test_a_rubric_with_too_few_verdicts_is_not_a_verdict(model, subject):
    judge = model.build(use="judge", kind="rubric", model="referee", items=["One.", "Two."])
    model.says({"items": [{"met": True}]})
    result = await model.result(judge, subject("x"))
    assert result.status == "error"
    assert '"items" has 1 entries, expected 2' in result.explanation


async def test_a_reference_judge_needs_a_reference(model, subject):
    judge = model.build(use="judge", kind="reference", model="referee")
    model.says({"score": 5})
    assert (await model.result(judge, subject("Paris", reference="It is Paris."))).score.value == 1.0
    assert "It is Paris." in model.prompts()[0]
    skipped = await model.result(judge, subject("Paris"))
    assert (skipped.status, skipped.explanation) == ("not_applicable", "a reference")
    assert len(model.bodies) == 1


async def test_groundedness_is_the_share_of_supported_claims(model, subject):
    judge = model.build(use="judge", kind="groundedness", model="referee")
    model.says({"claims": [{"claim": "green", "supported": True}, {"claim": "and cold", "supported": False}]})
    result = await model.result(judge, subject("It is green and cold.", QUESTION))
    assert (result.score.value, result.explanation) == (0.5, "not in the context: and cold")
    context = model.prompts()[0].partition("The conversation")[0]
    assert "The sky is green." in context
    skipped = await model.result(judge, subject("x", {"messages": [{"role": "user", "content": "?"}]}))
    assert skipped.status == "not_applicable"
    model.says({"claims": []})
    assert (await model.result(judge, subject("Hello!", QUESTION))).score.value == 1.0


async def test_a_context_may_stand_anywhere_in_the_request(model, subject):
    judge = model.build(use="judge", kind="groundedness", model="referee", context="metadata.context")
    model.says({"claims": [{"claim": "red", "supported": True}]})
    request = {"metadata": {"context": "All is red."}, "messages": [{"role": "user", "content": "?"}]}
    assert (await model.result(judge, subject("red", request))).score.value == 1.0
    assert "All is red." in model.prompts()[0]


async def test_an_exchange_without_an_answer_is_not_judged(model, subject):
    judge = model.build(use="judge", model="referee")
    result = await model.result(judge, subject(Completion(error="no"), status=503))
    assert (result.status, model.bodies) == ("not_applicable", [])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "j.model: missing; it must be given"),
        ({"model": "m", "kind": "rubric"}, "j.items: missing; a rubric needs items, as [{ask: …, weight: 1}]"),
        ({"model": "m", "items": ["x"]}, "j.items: only a rubric has items, and this judge is pointwise"),
        ({"model": "m", "scale": [5, 1]}, "j.scale: [5, 1] is not a scale: expected [low, high], as [1, 5]"),
        (
            {"model": "m", "context": "a"},
            "j.context: only groundedness uses a context, and this judge is pointwise",
        ),
        (
            {"model": "m", "kind": "rubric", "items": [{"ask": "x", "weight": 0}]},
            "j.items: an item of weight 0 has no effect; leave it out",
        ),
        (
            {"model": "m", "kind": "rubric", "items": ["x"], "criterion": "c"},
            "j.criterion: a rubric's items are its criterion; name them in `items`",
        ),
        (
            {"model": "m", "kind": "pointwize"},
            "j.kind: input should be 'pointwise', 'reference', 'rubric', 'groundedness' or 'pairwise', got 'pointwize'",
        ),
        (
            {"model": "m", "max_repeats": 3},
            "j: max_repeats and standard_error go together: repeats stop at whichever is reached first",
        ),
    ],
)
def test_contradictory_options_of_a_judge_are_mistakes(model, section, message):
    with pytest.raises(ConfigError) as caught:
        model.build(use="judge", **section)
    assert list(caught.value.mistakes) == [f"scorers.{message}"]


def test_the_hash_covers_the_template_and_the_criterion(model, tmp_path):
    (tmp_path / "mine.txt").write_text("Grade {{answer}} by {{criterion}}.")
    section = {"use": "judge", "model": "m", "template": "mine.txt"}
    one = model.build(**section).config_hash
    assert one == model.build(**section).config_hash
    (tmp_path / "mine.txt").write_text("Grade {{answer}} by {{criterion}}!")
    assert one != model.build(**section).config_hash
    assert (
        model.build(use="judge", model="m").config_hash
        != model.build(use="judge", model="m", criterion="x").config_hash
    )


async def test_a_judge_that_hangs_times_out_and_is_blocked(model, subject):
    judge = model.build(use="judge", model="referee", deadline_s=0.05, concurrency=MAX_TIMEOUTS)
    model.think = lambda body: FakeAnswer(b"{}", pauses=[HOLD])
    found = await asyncio.gather(*(model.result(judge, subject("blue")) for _ in range(MAX_TIMEOUTS)))
    assert {r.status for r in found} == {"timeout"}
    asked = len(model.bodies)
    after = await model.result(judge, subject("blue"))
    assert after.status == "error"
    assert after.explanation.startswith(f"blocked: {MAX_TIMEOUTS} deadlines in a row were missed; tried again in")
    assert len(model.bodies) == asked


async def test_beyond_its_budget_a_judge_makes_no_call(model, subject):
    judge = model.build(use="judge", model="referee", budget_usd=250e-6)
    model.says({"score": 3})
    statuses = [(await model.result(judge, subject("blue"))).status for _ in range(4)]
    assert statuses == ["scored", "scored", "budget", "budget"]
    assert len(model.bodies) == 2


async def test_a_judge_without_json_is_an_error_with_its_cost(model, subject):
    judge = model.build(use="judge", model="referee")
    model.says("I refuse to answer in JSON {{{")
    result = await model.result(judge, subject("blue"))
    assert (result.status, result.spent.tokens) == ("error", 220)
    assert result.explanation.startswith("UnreadableVerdict: the judge returned no verdict in two attempts")


def prefers(good: str):
    """A judge that finds the answer with this word, in either position."""

    def think(body):
        prompt = body["messages"][-1]["content"]
        first = prompt.partition("answer_2")[0].rpartition("answer_1")[0]
        return f'{{"reason": "r", "better": "{1 if good in first.rpartition("BEGIN answer_1")[2] else 2}"}}'

    return think


@pytest.fixture
def judge(model):
    """A pairwise judge that asks the scripted model."""
    return model.build(use="judge", kind="pairwise", model="referee")


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize(("good", "value", "label"), [("apples", 0.0, "a"), ("bananas", 1.0, "b")])
async def test_the_better_answer_wins_in_both_orders(model, judge, pair, first, good, value, label):
    model.think = prefers(good)
    result = await model.result(judge, pair("apples", "bananas", first=first))
    assert (result.score.value, result.score.label, result.score.detail["flip"]) == (value, label, 0.0)
    shown_first = {"a": "apples", "b": "bananas"}[first]
    assert result.score.detail["first_slot"] == float(shown_first == good)
    assert math.isclose(result.spent.cost_usd, 220e-6)
    one, other = model.prompts()
    assert one.index(shown_first) < min(one.index(w) for w in {"apples", "bananas"} - {shown_first})
    assert one != other


async def test_a_preference_for_the_first_answer_is_a_tie(model, judge, pair):
    model.says({"better": "1"})
    score = (await model.result(judge, pair("apples", "bananas"))).score
    assert (score.value, score.label, dict(score.detail)) == (0.5, "tie", {"flip": 1.0, "first_slot": 1.0})
    assert score.explanation.startswith("The preference changed with the order, so it is a tie.")


async def test_neither_in_one_order_counts_half(model, judge, pair):
    model.says({"better": "neither"}, {"better": "2"})  # turned: 2 is a
    score = (await model.result(judge, pair("apples", "bananas"))).score
    assert (score.value, dict(score.detail)) == (0.25, {"flip": 0.0, "first_slot": 0.5})


async def test_answers_that_are_the_same_are_a_tie_and_cost_nothing(model, judge, pair):
    score = (await model.result(judge, pair("apples", " apples\n"))).score
    assert (score.value, model.bodies) == (0.5, [])


async def test_a_pair_without_an_answer_is_not_applicable(model, judge, pair):
    result = await model.result(judge, pair("apples", "", status=503))
    assert (result.status, model.bodies) == ("not_applicable", [])


async def test_a_word_without_a_place_is_not_a_verdict(model, judge, pair):
    model.says({"better": "the second one, clearly"})
    result = await model.result(judge, pair("apples", "bananas"))
    assert result.status == "error"
    assert 'expected "1", "2" or "neither"' in result.explanation
    assert result.spent.tokens == 220


LOOK = ToolCall("1", "look", '{"at": 1}')
STEPS = (
    RunStep("user", "Where is it?"), RunStep("assistant", "", (LOOK,)), RunStep("tool", "nothing", tool_call_id="1"),
    RunStep("assistant", "It is gone."),
)  # fmt: skip
RUN = RunSubject("r", (RunCall(tool_calls=(LOOK,)), RunCall(text="It is gone.")), STEPS)


async def test_a_judge_of_runs_sees_the_whole_trajectory(model):
    judge = model.build(use="judge", model="referee", unit="run", criterion="It was found.")
    model.says({"reason": "it was not", "score": 2})
    result = await model.result(judge, RUN)
    assert (result.status, result.score.value, result.explanation) == ("scored", 0.25, "it was not")
    (prompt,) = model.prompts()
    for text in ("Criterion: It was found.", "[user]\nWhere is it?", '[calls look with {"at": 1}]', "[tool]\nnothing",
                 "It is gone.", "the run ends after 2 calls", "from 1 to 5"):  # fmt: skip
        assert text in prompt


async def test_a_run_has_a_rubric_too(model):
    judge = model.build(use="judge", kind="rubric", model="referee", unit="run", items=["It was found.", "It looked."])
    model.says({"items": [{"met": False}, {"met": True}]})
    assert (await model.result(judge, RUN)).score.value == 0.5
    assert "1. It was found.\n2. It looked." in model.prompts()[0]


@pytest.mark.parametrize("run", [RunSubject("r", RUN.calls), RunSubject("r", RUN.calls, STEPS, complete=False)])
async def test_a_run_that_is_not_recorded_whole_is_not_judged(model, run):
    judge = model.build(use="judge", model="referee", unit="run")
    assert (await model.result(judge, run)).status == "not_applicable"
    assert not model.bodies


@pytest.mark.parametrize("kind", ["reference", "groundedness", "pairwise"])
def test_a_run_is_judged_by_itself(kind):
    with pytest.raises(ConfigError, match="a run is judged pointwise or by a rubric"):
        build_all({"j": Section(use="judge", model="referee", unit="run", kind=kind)})


def test_a_judge_of_answers_is_the_same_as_before():
    one, other = (build_all({"j": Section(use="judge", model="referee", **unit)}) for unit in ({}, {"unit": "run"}))
    assert list(one.single) == list(other.runs) == ["j"]
    assert (
        one.single["j"].config_hash == build_all({"j": Section(use="judge", model="referee")}).single["j"].config_hash
    )
