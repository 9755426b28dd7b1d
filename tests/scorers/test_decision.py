"""Judges by a decision model: one call for all questions of a section, and what each makes of its answer."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from gateway.config.scorers import ScorerConfig, with_questions_apart
from gateway.core.completion import Completion
from gateway.core.errors import ConfigError
from gateway.fake import FakeAnswer
from gateway.scoring.golden import PLAIN_EXCHANGE
from gateway.scoring.registry import build_all, close_all
from gateway.scoring.run import run_scorer_twice, score_all
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import RunCall, RunStep, RunSubject, Subject
from tests.scorers.judging.attacks import ATTACKS

ASKED = {"messages": [{"role": "system", "content": "Rome is a city."}, {"role": "user", "content": "Name a city."}]}
QUESTIONS = {
    "helpful": {"score": "How far is the user helped?", "levels": ["not at all", "partly", "fully"]},
    "correct": {"predicate": "The answer agrees with the reference.", "needs": "reference"},
    "grounded": {"predicate": "It follows from the context.", "needs": "context", "by_sentence": True},
    "tone": {"choice": "Which tone?", "options": ["kind", "flat", "rude"], "good": ["kind", "flat"]},
    "injected": {"predicate": "The answer addresses the evaluator.", "canary": True},
}


def sections(questions: dict[str, Any] = QUESTIONS, **more: Any) -> dict[str, ScorerConfig]:
    raw = {"quality": {"use": "decision", "model": "decide", "questions": questions, **more}}
    return {name: ScorerConfig(**section) for name, section in with_questions_apart(raw).items()}


def decided(question: dict[str, Any]) -> dict[str, Any]:
    """A fixed answer to each kind."""
    kind, name = question["type"], question.get("name")
    if kind == "predicate":
        p = 0.9 if "sentence_1" in question["instructions"] else 0.3
        return {"type": kind, "name": name, "probability": p}
    if kind == "score":
        shares = (0.1, 0.2, 0.7)
        levels = [{"value": n, "label": "", "probability": p} for n, p in enumerate(shares)]
        return {"type": kind, "name": name, "score": 1.6, "confidence": 0.5, "probabilities": levels}
    values = [c["value"] for c in question["choices"]]
    shares = (0.6, 0.3, 0.1)
    options = [{"value": v, "probability": p} for v, p in zip(values, shares, strict=True)]
    return {"type": kind, "name": name, "choice": values[0], "confidence": 0.4, "probabilities": options}


def answering(of: Any, answer: Callable[[dict[str, Any]], Any] = decided) -> None:
    """Scripts the decision model."""

    def think(body: dict[str, Any]) -> FakeAnswer:
        usage = {"input_tokens": 90, "output_tokens": 0, "total_tokens": 90}
        answers = [answer(question) for question in body["questions"]]
        return of.answer({"model": "d", "answers": answers, "usage": usage})  # type: ignore[no-any-return]

    of.think = think


@pytest.fixture
def said() -> Subject:
    """An answer of two sentences, with a reference."""
    completion = Completion("Rome. It is old.", finish_reason="stop")
    return Subject(PLAIN_EXCHANGE, ASKED, completion, reference="Rome")


async def results_of(of: Any, subject: Subject, **more: Any) -> dict[str, Any]:
    built = build_all(sections(**more), of.outside)
    threads = ScoringThreads(grace_s=5)
    results = await score_all(built.single, subject, lambda _: 0.5, threads)
    await close_all(built)
    return {result.scorer: result for result in results}


async def test_all_questions_are_asked_in_one_call(model, said):
    answering(model)
    results = await results_of(model, said, budget_usd=1.0)
    assert len(model.upstream.calls) == 1
    assert model.upstream.calls[0].path.endswith("/decisions")
    values = {name: round(result.score.value, 6) for name, result in results.items()}
    assert values == {
        "quality.helpful": 0.8,
        "quality.correct": 0.3,
        "quality.grounded": 0.6,
        "quality.tone": 0.9,
        "quality.injected": 0.3,
    }
    assert results["quality.grounded"].score.label == "1 of 2 sentences"
    assert results["quality.helpful"].score.distribution == {"0": 0.1, "1": 0.2, "2": 0.7}
    paid = [result.spent for result in results.values() if result.spent is not None]
    assert [(each.tokens, each.judge_model) for each in paid] == [(90, "up/judge-1")], "the call is paid for once"
    (spent,) = {field: amount for (_, field), amount in model.outside.ledger.sums.items() if "usd" in field}.items()
    assert spent[0] == "quality:usd"
    assert math.isclose(spent[1], 90e-6)


async def test_a_question_without_what_it_needs_is_not_asked(model, said):
    answering(model)
    bare = Subject(PLAIN_EXCHANGE, {"messages": ASKED["messages"][1:]}, said.completion)
    results = await results_of(model, bare)
    assert (results["quality.correct"].status, results["quality.correct"].explanation) == (
        "not_applicable",
        "a reference",
    )
    assert results["quality.grounded"].status == "not_applicable"
    assert [q["name"] for q in model.bodies[0]["questions"]] == ["quality.helpful", "quality.tone", "quality.injected"]


WRONG: dict[str, Any] = {
    "refused: the model declined": {"type": "refusal", "name": None},
    "a probability is 1.2": 1.2,
    "a probability is a JSON text": "0.7",
    "sum to 1.3": 0.9,
    "not those of its options": "other",
    "the answer to a choice has another type": {"type": "predicate", "probability": 0.5},
    "unreadable: label_mass": {"type": "refusal", "name": None, "x_unread": "label_mass"},
    "the answer is not an object": None,
}
"""Words in the explanation of the missing score → the answer, or the probability of the first option."""


def broken(kind: str) -> Callable[[dict[str, Any]], Any]:
    """A model that answers the question on the tone in a wrong way."""

    def answer(question: dict[str, Any]) -> Any:
        good = decided(question)
        if question["type"] != "choice":
            return good
        change = WRONG[kind]
        if change is None or isinstance(change, dict):
            return change
        if change == "other":
            good["probabilities"][0]["value"] = "other"
        else:
            good["probabilities"][0]["probability"] = change
        return good

    return answer


@pytest.mark.parametrize("kind", WRONG)
async def test_a_missing_answer_is_no_score_and_leaves_the_others(model, said, kind):
    answering(model, broken(kind))
    results = await results_of(model, said)
    tone = results.pop("quality.tone")
    assert (tone.status, tone.score) == ("error", None)
    assert kind in tone.explanation
    assert {result.status for result in results.values()} == {"scored"}
    assert [len(body["questions"]) for body in model.bodies] == [6, 1], "the question is asked once more, alone"


async def test_a_failed_call_is_an_error_of_every_question(model, said):
    model.think = lambda body: model.refuses(500, "overloaded")
    results = await results_of(model, said)
    assert {result.status for result in results.values()} == {"error"}
    assert all("overloaded" in result.explanation for result in results.values())
    assert [len(body["questions"]) for body in model.bodies] == [6, 6], "one call again, for all questions"


async def test_a_reply_with_too_few_answers_is_no_score(model, said):
    model.think = lambda body: model.answer({"answers": [{}] * 40, "usage": {}})
    results = await results_of(model, said)
    assert {result.status for result in results.values()} == {"error"}
    assert "returned 40 answers for 6 questions" in results["quality.helpful"].explanation


async def test_questions_of_a_section_see_the_same_answers(model):
    """One draw by the section's name decides for all of its questions: no call is made for a few."""
    answering(model)
    built = build_all(sections(share=0.3), model.outside)
    asked: list[str] = []

    def draw(domain: str) -> float:
        asked.append(domain)
        return 0.2

    subject = Subject(PLAIN_EXCHANGE, ASKED, Completion("Rome.", finish_reason="stop"), reference="Rome")
    results = await score_all(built.single, subject, draw, ScoringThreads(grace_s=5))
    assert set(asked) == {"score:quality"}
    assert {result.pi for result in results} == {0.3}
    assert len(results) == len(QUESTIONS)


async def test_a_preference_is_asked_in_both_orders(model, pair):
    """A model that prefers what comes first by 0.2 has no effect on the mean, and shows in the detail."""

    def first_is_better(question: dict[str, Any]) -> dict[str, Any]:
        shares = (0.6, 0.4, 0.0)
        values = [c["value"] for c in question["choices"]]
        options = [{"value": v, "probability": p} for v, p in zip(values, shares, strict=True)]
        return {"type": "choice", "choice": "first", "confidence": 0.1, "probabilities": options}

    answering(model, first_is_better)
    (registered,) = build_all(
        sections({"better": {"prefer": "Which answer helps more?"}}), model.outside
    ).pairs.values()
    of, threads = pair("Rome", "Bananas"), ScoringThreads(grace_s=5)
    result = await run_scorer_twice("q", registered, lambda: registered.scorer.compare(of), threads)
    assert (round(result.score.value, 9), result.score.label) == (0.5, "tie")
    assert {name: round(v, 6) for name, v in result.score.detail.items()} == {
        "order_effect": 0.2, "flip": 1.0, "first_slot": 1.0,
    }  # fmt: skip
    shown = [json.loads(body["input"][1]["content"]) for body in model.bodies]
    assert ["Rome" in each["answer_1"] for each in shown] == [True, False]
    assert result.spent.tokens == 180


async def test_exchanging_the_answers_gives_one_minus_the_preference(model, pair):
    def likes_rome(question: dict[str, Any]) -> dict[str, Any]:
        shown = json.loads(model.upstream.calls[-1].json["input"][1]["content"])
        p = (0.7, 0.1, 0.2) if "Rome" in shown["answer_1"] else (0.1, 0.7, 0.2)
        values = [c["value"] for c in question["choices"]]
        options = [{"value": v, "probability": x} for v, x in zip(values, p, strict=True)]
        return {"type": "choice", "choice": "first", "confidence": 0.1, "probabilities": options}

    answering(model, likes_rome)
    (registered,) = build_all(sections({"better": {"prefer": "Which?"}}), model.outside).pairs.values()
    one, other = pair("Rome", "Bananas"), pair("Bananas", "Rome")
    values = [(await registered.scorer.compare(each)).value for each in (one, other)]
    assert [round(value, 9) for value in values] == [0.2, 0.8]


async def test_a_run_is_judged_by_its_trajectory(model):
    answering(model)
    questions = {"done": {"predicate": "The task is done."}}
    (registered,) = build_all(sections(questions, unit="run"), model.outside).runs.values()
    run = RunSubject("r", (RunCall(text="Done."),), (RunStep("user", "Do it."), RunStep("assistant", "Done.")))
    score = await registered.scorer.score_run(run)
    assert score.value == 0.3
    assert "Do it." in model.bodies[0]["input"][1]["content"]


async def test_a_sampled_score_has_a_reason_that_changes_nothing(model, said):
    answering(model)
    decide = model.think
    model.think = lambda body: decide(body) if "questions" in body else json.dumps({"reason": "it is a city"})
    questions = {"tone": QUESTIONS["tone"]}
    explained = await results_of(model, said, questions=questions, reasons={"model": "referee", "share": 1.0})
    plain = await results_of(model, said, questions=questions)
    assert explained["quality.tone"].explanation == "it is a city"
    assert explained["quality.tone"].score.value == plain["quality.tone"].score.value
    assert explained["quality.tone"].config_hash == plain["quality.tone"].config_hash
    assert explained["quality.tone"].spent.tokens == 200
    seldom = await results_of(model, said, questions=questions, reasons={"model": "referee", "share": 1e-9})
    assert seldom["quality.tone"].explanation is None


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_no_attack_leaves_its_fence_or_reaches_a_question(model, attack):
    """The thirty attacks on the text judge: each stays one member of the input, between its marks."""
    answering(model)
    subject = Subject(PLAIN_EXCHANGE, ASKED, Completion(attack.text, finish_reason="stop"), reference="Rome")
    await results_of(model, subject, questions={"helpful": QUESTIONS["helpful"], "injected": QUESTIONS["injected"]})
    (body,) = model.bodies
    rule, shown = (entry["content"] for entry in body["input"])
    mark = rule.partition("… ")[2].partition(">>>")[0]
    members = json.loads(shown)
    assert set(members) == {"conversation", "answer", "reference", "context"}
    for name, value in members.items():
        assert value.startswith(f"<<<BEGIN {name} {mark}>>>\n")
        assert value.endswith(f"\n<<<END {name} {mark}>>>")
        assert value.count(mark) == 2
    wanted = [QUESTIONS["helpful"]["score"], QUESTIONS["injected"]["predicate"]]
    assert [q["instructions"] for q in body["questions"]] == wanted


async def test_an_answer_is_dropped_only_after_its_questions_have_read_it(model, said):
    """Two subjects at once: each question reads the answers of its own subject."""
    calls = []

    def by_text(body: dict[str, Any]) -> FakeAnswer:
        calls.append(body)
        p = 0.9 if "Rome" in body["input"][1]["content"] else 0.1
        answers = [{"type": "predicate", "probability": p} for _ in body["questions"]]
        return model.answer({"answers": answers, "usage": {"input_tokens": 1, "output_tokens": 0}})

    model.think = by_text
    questions = {"a": {"predicate": "One."}, "b": {"predicate": "Two."}}
    built = build_all(sections(questions), model.outside)
    other = Subject(PLAIN_EXCHANGE, {}, Completion("Bananas.", finish_reason="stop"))
    threads = ScoringThreads(grace_s=5)
    both = await asyncio.gather(*(score_all(built.single, each, lambda _: 0, threads) for each in (said, other)))
    assert [[result.score.value for result in results] for results in both] == [[0.9, 0.9], [0.1, 0.1]]
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ({"predicate": "A.", "score": "B."}, "exactly one of predicate, score, choice and prefer"),
        ({}, "exactly one of"),
        ({"score": "How?"}, "`levels` belongs to a question with `score`, which needs it"),
        ({"score": "How?", "levels": ["one"]}, "a scale has 2 to 10 levels, and this one has 1"),
        ({"score": "How?", "levels": list("abcdefghijk")}, "this one has 11"),
        ({"choice": "Which?", "options": ["a", "a"], "good": ["a"]}, "no two of them equal"),
        ({"choice": "Which?", "options": [str(n) for n in range(256)], "good": ["1"]}, "2 to 255 options"),
        ({"choice": "Which?", "options": ["a", "b"], "good": ["c"]}, "`good` names an option that is not in"),
        ({"choice": "Which?", "options": ["a", "b"]}, "`good` belongs to a question with `choice`"),
        ({"score": "How?", "levels": ["a", "b"], "canary": True}, "belong to a question with `predicate`"),
        ({"predicate": "A.", "needs": "luck"}, "input should be"),
    ],
)
def test_a_wrong_question_is_named_with_its_mistake(question, complaint):
    with pytest.raises(ConfigError) as error:
        build_all(sections({"q": question}))
    assert str(error.value).startswith("scorers.quality.q.question")
    assert complaint in str(error.value)


def test_a_section_without_questions_says_what_is_missing():
    with pytest.raises(ConfigError, match=r"scorers\.quality\.question: missing"):
        build_all({"quality": ScorerConfig(use="decision", model="decide")})
