"""Parses OpenAI's grader JSON. Types that are not supported are rejected by name.

Source: OpenAI API, guide and reference "Graders".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.core.did_you_mean import did_you_mean
from gateway.scoring.options import InvalidOptions

Metric = Literal[
    "cosine",
    "fuzzy_match",
    "bleu",
    "gleu",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]
_UNSUPPORTED = {
    "python": "code in a config is not run; write a scorer and configure it with `use: package.module:Class`",
    "endpoint": "configure the service as a scorer of its own: `use: http://…`",
}


class _Grader(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: str = "grader"
    pass_threshold: float | None = None


class StringCheck(_Grader):
    """like: the input contains the reference; ilike: the same, ignoring case."""

    type: Literal["string_check"]
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(_Grader):
    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: Metric


class Message(BaseModel):
    """A message of a model grader; only text is supported."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | dict[str, Any] | tuple[str | dict[str, Any], ...]
    type: Literal["message"] = "message"

    @property
    def text(self) -> str:
        """Raises ValueError for a part that is not text."""
        parts = self.content if isinstance(self.content, tuple) else (self.content,)
        return "\n".join(_text(p) for p in parts)


class SamplingParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    max_completions_tokens: int | None = None
    max_completion_tokens: int | None = None

    def params(self) -> dict[str, Any]:
        """Members of a chat request, which spells max_completions_tokens without the first s."""
        given = self.model_dump(exclude_none=True)
        limit = given.pop("max_completions_tokens", None)
        return given if limit is None else {**given, "max_completion_tokens": limit}


class ScoreModel(_Grader):
    type: Literal["score_model"]
    model: str
    input: Annotated[tuple[Message, ...], Field(min_length=1)]
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: SamplingParams = SamplingParams()


class LabelModel(_Grader):
    type: Literal["label_model"]
    model: str
    input: Annotated[tuple[Message, ...], Field(min_length=1)]
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    passing_labels: Annotated[tuple[str, ...], Field(min_length=1)]
    sampling_params: SamplingParams = SamplingParams()


class MultiGrader(_Grader):
    """Several graders and a formula."""

    type: Literal["multi"]
    graders: dict[str, Any]
    """By their names in the formula."""
    calculate_output: str


Leaf = StringCheck | TextSimilarity | ScoreModel | LabelModel
_TYPES: dict[str, type[Leaf] | type[MultiGrader]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "score_model": ScoreModel,
    "label_model": LabelModel,
    "multi": MultiGrader,
}


def parse_grader(raw: Any, at: str = ".grader", *, nested: bool = False) -> Leaf | MultiGrader:
    """The grader. Raises InvalidOptions with every mistake."""
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        raise InvalidOptions([f'{at}: expected a grader object with a "type", as {{type: string_check, …}}'])
    kind = raw["type"]
    if kind in _UNSUPPORTED:
        raise InvalidOptions([f'{at}.type: "{kind}" graders are not supported: {_UNSUPPORTED[kind]}'])
    if kind not in _TYPES:
        raise InvalidOptions(
            [f'{at}.type: no grader type "{kind}"{did_you_mean(kind, _TYPES) or "; known: " + ", ".join(_TYPES)}']
        )
    if kind == "multi" and nested:
        raise InvalidOptions([f"{at}.type: a multi grader cannot contain another one"])
    if raw.get("evaluation_metric") == "meteor":
        raise InvalidOptions([f"{at}.evaluation_metric: meteor needs a dictionary of synonyms and is not supported"])
    try:
        parsed = _TYPES[kind].model_validate(raw)
    except ValidationError as error:
        raise InvalidOptions([_line(at, e) for e in error.errors(include_url=False)]) from error
    _check(parsed, at)
    return parsed


def _check(parsed: Leaf | MultiGrader, at: str) -> None:
    if isinstance(parsed, ScoreModel) and not parsed.range[0] < parsed.range[1]:
        raise InvalidOptions([f"{at}.range: {list(parsed.range)} is not a range: expected [low, high]"])
    if isinstance(parsed, LabelModel) and (unknown := sorted(set(parsed.passing_labels) - set(parsed.labels))):
        raise InvalidOptions([f"{at}.passing_labels: {', '.join(unknown)}: not among labels"])
    if isinstance(parsed, ScoreModel | LabelModel):
        for number, message in enumerate(parsed.input):
            try:
                _ = message.text
            except ValueError as error:
                raise InvalidOptions([f"{at}.input[{number}].content: {error}"]) from None


def _line(at: str, error: Any) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    return f"{at}{path}: {message[0].lower()}{message[1:]}"


def _text(part: str | dict[str, Any]) -> str:
    if isinstance(part, str):
        return part
    if part.get("type") in ("input_text", "output_text", "text") and isinstance(part.get("text"), str):
        return str(part["text"])
    raise ValueError(f'only text can be graded, not "{part.get("type")}"')
