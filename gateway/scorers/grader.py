"""OpenAI's grader JSON as a scorer: `use: grader`, with the JSON under `grader`. grader_json.py parses it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from gateway.core.completion import Completion
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped, Spent
from gateway.scorers import grader_json
from gateway.scorers.embedding import VectorSource, cosine, vector_source
from gateway.scorers.grader_json import (
    Formula,
    LabelModel,
    Leaf,
    MissingVariable,
    MultiGrader,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    parse_grader,
    similarity,
)
from gateway.scorers.judging.model import (
    JudgeModel,
    JudgeQuestion,
    NoVerdict,
    read_number,
    read_reason,
    response_format,
)
from gateway.scorers.judging.templates import fence_rule, fence_texts, random_mark
from gateway.scorers.preconditions import require_answer
from gateway.scoring.asker import Asker, total_spent
from gateway.scoring.options import InvalidOptions
from gateway.scoring.types import Golden, Subject

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Grade:
    """The result of one grader."""

    value: float
    """Value in [0, 1]."""
    label: str | None = None
    reason: str | None = None
    spent: Spent | None = None


def grader(
    name: str,
    asker: Asker,
    grader: dict[str, Any],
    model: Annotated[str, Field(min_length=1)] | None = None,
    embedding: Annotated[str, Field(min_length=1)] | None = None,
) -> Grader:
    """The scorer of a grader.

    grader: OpenAI's JSON. model: the alias to call instead of the one in the JSON. embedding: the alias whose vectors
    `cosine` compares; None: MiniLM. Raises InvalidOptions and ValueError.
    """
    parsed = parse_grader(grader)
    if not isinstance(parsed, MultiGrader):
        return Grader(name, {"": parsed}, None, _backends("", parsed, asker, model, embedding), parsed.pass_threshold)
    parts = {
        key: _leaf(parse_grader(raw, f".grader.graders.{key}", nested=True)) for key, raw in parsed.graders.items()
    }
    try:
        formula = Formula(parsed.calculate_output, parts)
    except ValueError as error:
        raise InvalidOptions([f".grader.calculate_output: {error}"]) from None
    backends: dict[str, JudgeModel | VectorSource] = {}
    for key, part in parts.items():
        backends |= _backends(key, part, asker, model, embedding)
    return Grader(name, parts, formula, backends, parsed.pass_threshold)


def _leaf(parsed: Leaf | MultiGrader) -> Leaf:
    assert not isinstance(parsed, MultiGrader)  # noqa: S101 - parse_grader refuses nested ones
    return parsed


def _backends(
    key: str, leaf: Leaf, asker: Asker, model: str | None, embedding: str | None
) -> dict[str, JudgeModel | VectorSource]:
    """The model or vectors that this grader calls, after checking the variables in its texts."""
    at = f".grader.graders.{key}" if key else ".grader"
    if isinstance(leaf, StringCheck | TextSimilarity):
        grader_json.check_variables(leaf.input, f"{at}.input")
        grader_json.check_variables(leaf.reference, f"{at}.reference")
        cosines = isinstance(leaf, TextSimilarity) and leaf.evaluation_metric == "cosine"
        return {key: vector_source(asker, embedding)} if cosines else {}
    for number, message in enumerate(leaf.input):
        grader_json.check_variables(message.text, f"{at}.input[{number}].content")
    return {key: JudgeModel(asker, model or leaf.model, params=leaf.sampling_params.params())}


@dataclass(frozen=True, slots=True)
class Grader:
    """One grader, or a multi grader."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Direction] = "maximise"
    bounds: ClassVar[Bounds] = (0.0, 1.0)

    name: str
    parts: Mapping[str, Leaf]
    """The parts by name; a single grader has the name ""."""
    formula: Formula | None
    """The formula of a multi grader; None: a single grader."""
    backends: Mapping[str, JudgeModel | VectorSource]
    """The models and vectors of the parts that need them."""
    threshold: float | None

    @property
    def kind(self) -> Kind:
        if any(isinstance(b, JudgeModel) for b in self.backends.values()):
            return "llm"
        return "model" if self.backends else "code"

    @property
    def waits(self) -> bool:
        return any(isinstance(b, JudgeModel) or not b.local for b in self.backends.values())

    @property
    def heavy(self) -> bool:
        return not self.waits

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases that it calls."""
        return tuple(dict.fromkeys(b.model for b in self.backends.values() if b.model is not None))

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := require_answer(subject):
            return skipped
        values = grader_json.variables_of(subject)
        grades: dict[str, Grade] = {}
        for key, part in self.parts.items():
            try:
                grades[key] = await self._grade(key, part, values)
            except MissingVariable as missing:
                return Skipped(_need(missing.name), _spent(grades))
        return self._score(grades)

    def _score(self, grades: Mapping[str, Grade]) -> Score:
        first = next(iter(grades.values()))
        spent = _spent(grades)
        if self.formula is None:
            label = first.label or self._passed(first.value)
            return Score(first.value, label, first.reason, spent=spent)
        value = self.formula.value({key: grade.value for key, grade in grades.items()})
        reasons = "; ".join(f"{key} {grade.value:.3g}" for key, grade in grades.items())
        detail = {key: grade.value for key, grade in grades.items()}
        return Score(value, self._passed(value), reasons, detail, spent)

    def _passed(self, value: float) -> str | None:
        return None if self.threshold is None else "pass" if value >= self.threshold else "fail"

    async def _grade(self, key: str, part: Leaf, values: Values) -> Grade:
        if isinstance(part, StringCheck):
            return Grade(_check(part, grader_json.fill(part.input, values), grader_json.fill(part.reference, values)))
        if isinstance(part, TextSimilarity):
            return await self._similar(key, part, values)
        model = self.backends[key]
        assert isinstance(model, JudgeModel)  # noqa: S101 - _backends built it
        return await (_scored(model, part, values) if isinstance(part, ScoreModel) else _labelled(model, part, values))

    async def _similar(self, key: str, part: TextSimilarity, values: Values) -> Grade:
        text, reference = grader_json.fill(part.input, values), grader_json.fill(part.reference, values)
        vectors = self.backends.get(key)
        if vectors is None or isinstance(vectors, JudgeModel):
            # A heavy scorer runs on its own thread already; one that waits runs on the event loop.
            if self.waits:
                return Grade(await asyncio.to_thread(similarity, part.evaluation_metric, text, reference))
            return Grade(similarity(part.evaluation_metric, text, reference))
        (a, b), spent = await vectors.of([text, reference])
        return Grade(max(0.0, round(cosine(a, b), 4)), spent=spent)

    def golden(self) -> tuple[Golden, ...]:
        refused = Golden("a rejected request has no answer", {}, Completion(error="overloaded"), None, {"status": 503})
        only = next(iter(self.parts.values()))
        plain = self.formula is None and isinstance(only, StringCheck | TextSimilarity) and not self.waits
        if not plain or not isinstance(only, StringCheck | TextSimilarity):
            return (refused,)
        if only.input != "{{sample.output_text}}" or only.reference != "{{item.reference}}":
            return (refused,)
        same = Golden(
            "the same",
            {},
            Completion("The cat sat on the red mat", finish_reason="stop"),
            float(not (isinstance(only, StringCheck) and only.operation == "ne")),
            reference="The cat sat on the red mat",
        )
        return refused, same, replace(same, name="no reference", reference=None, expected=None)


def _check(part: StringCheck, text: str, reference: str) -> float:
    match part.operation:
        case "eq":
            return float(text == reference)
        case "ne":
            return float(text != reference)
        case "like":
            return float(reference in text)
        case "ilike":
            return float(reference.lower() in text.lower())


async def _scored(model: JudgeModel, part: ScoreModel, values: Values) -> Grade:
    low, high = part.range
    instruction = (
        f'Answer with one JSON object: {{"reason": "…", "result": N}}, where N is a number from {low:g} to {high:g}.'
    )
    form = response_format("grade", {"reason": {"type": "string"}, "result": {"type": "number"}})
    question = JudgeQuestion(
        _messages(part, values, instruction), "result", form, lambda v: read_number(v, "result", low, high)
    )
    verdict = await model.verdict(question)
    return Grade((verdict.value - low) / (high - low), None, read_reason(verdict.raw), verdict.spent)


async def _labelled(model: JudgeModel, part: LabelModel, values: Values) -> Grade:
    listed = ", ".join(f'"{label}"' for label in part.labels)
    instruction = f'Answer with one JSON object: {{"reason": "…", "label": "…"}}, where label is one of {listed}.'
    label = {"type": "string", "enum": list(part.labels)}
    form = response_format("grade", {"reason": {"type": "string"}, "label": label})

    def read_label(verdict: dict[str, Any]) -> str:
        answer = str(verdict["label"]).strip().lower()
        for each in part.labels:
            if each.lower() == answer:
                return each
        raise NoVerdict(f'"label" is {verdict["label"]!r}, expected one of {listed}')

    verdict = await model.verdict(JudgeQuestion(_messages(part, values, instruction), "label", form, read_label))
    passed = float(verdict.value in part.passing_labels)
    return Grade(passed, verdict.value, read_reason(verdict.raw), verdict.spent)


def _messages(part: ScoreModel | LabelModel, values: Values, instruction: str) -> list[dict[str, str]]:
    """The grader's own messages, with every variable in a fence, since its text is untrusted."""
    given: dict[str, str] = {}
    for message in part.input:
        grader_json.fill(message.text, values, lambda name, text: given.setdefault(name, text))
    inside, mark = fence_texts(given, random_mark)
    out = [
        {"role": m.role, "content": grader_json.fill(m.text, values, lambda name, _: f"\n{inside[name]}\n")}
        for m in part.input
    ]
    return [{"role": "system", "content": fence_rule(mark)}, *out, {"role": "user", "content": instruction}]


def _need(variable: str) -> str:
    return "a reference" if variable.startswith("item.reference") else f"a value for {{{{{variable}}}}}"


def _spent(grades: Mapping[str, Grade]) -> Spent | None:
    parts: Sequence[Spent] = [g.spent for g in grades.values() if g.spent is not None]
    return total_spent(parts)
