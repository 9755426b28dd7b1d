"""OpenAI's grader JSON: parses it, fills in its variables, computes its formulas and text similarities. Pure.

Types that are not supported are rejected by name. {{item.…}} and {{sample.…}} are replaced in one pass: inserted values
are not searched. A multi grader's `calculate_output` is arithmetic over the names of its graders, and nothing else.
Source: OpenAI API, guide and reference "Graders".
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rapidfuzz import fuzz

from gateway.core.did_you_mean import did_you_mean
from gateway.core.json_values import as_object
from gateway.scorers import bleu, rouge_l
from gateway.scorers.judging.material import conversation
from gateway.scorers.rouge_n import ngram_f_measure
from gateway.scoring.options import InvalidOptions
from gateway.scoring.types import Subject

Metric = Literal[
    "cosine", "fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
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
    """A comparison of texts. like: the input contains the reference; ilike: it does so ignoring case."""

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
    """A formula over several graders."""

    type: Literal["multi"]
    graders: dict[str, Any]
    """Graders by their names in the formula."""
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


MAX_CHARACTERS, MAX_NODES = 2000, 300
_BINARY: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}


class Formula:
    """A parsed formula of numbers, names, + - * / ^ ( ) and min, max, abs, floor, ceil, exp, sqrt, log. ^ is a power.

    Raises ValueError for anything else, and for an unknown name.
    """

    def __init__(self, text: str, known: Mapping[str, Any]) -> None:
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"longer than {MAX_CHARACTERS} characters")
        try:
            self._tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        except (SyntaxError, RecursionError, MemoryError, ValueError):
            raise ValueError(f"{text!r} is not a formula") from None
        if sum(1 for _ in ast.walk(self._tree)) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} parts")
        self._check(self._tree, known)

    def value(self, of: Mapping[str, float]) -> float:
        """The value for these variables. Raises ValueError for a division by 0 and the like."""
        try:
            return float(self._value(self._tree, of))
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ValueError(f"calculate_output has no value here: {error}") from None

    def _check(self, node: ast.expr, known: Mapping[str, Any]) -> None:
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                return
            case ast.Name(id=name) if name in known:
                return
            case ast.Name(id=name):
                raise ValueError(f'no grader "{name}"; known: {", ".join(known)}')
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self._check(left, known)
                self._check(right, known)
            case ast.UnaryOp(op=unary, operand=operand) if type(unary) in _UNARY:
                self._check(operand, known)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
                for each in args:
                    self._check(each, known)
            case _:
                raise ValueError(f"{ast.unparse(node)!r} is not allowed in a formula")

    def _value(self, node: ast.expr, of: Mapping[str, float]) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return of[name]
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._value(left, of), self._value(right, of))
            case ast.UnaryOp(op=unary, operand=operand):
                return _UNARY[type(unary)](self._value(operand, of))
            case ast.Call(func=ast.Name(id=name), args=args):
                return _FUNCTIONS[name](*(self._value(each, of) for each in args))
        raise ValueError("a checked formula has no such node")


_VARIABLE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_SAMPLE = ("output_text", "output_json", "output_tools", "choices", "finish_reason", "model")


class MissingVariable(Exception):
    """A variable has no value for this subject."""

    name: str

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def check_variables(text: str, at: str) -> None:
    """Raises InvalidOptions for variables that no subject can have."""
    for name in _VARIABLE.findall(text):
        space, _, rest = name.partition(".")
        if space not in ("item", "sample") or not rest:
            raise InvalidOptions([f"{at}: {{{{{name}}}}}: expected {{{{item.NAME}}}} or {{{{sample.NAME}}}}"])
        first = _STEP.match(rest)
        if space == "sample" and (first is None or first[1] not in _SAMPLE):
            raise InvalidOptions([f"{at}: {{{{{name}}}}}: sample has {', '.join(_SAMPLE)}"])


def variables_of(subject: Subject) -> dict[str, Any]:
    """The values: item is the request's metadata, reference and messages; sample is the answer."""
    completion, request = subject.completion, subject.request
    item: dict[str, Any] = {"input": conversation(request), "messages": request.get("messages"), "request": request}
    item |= as_object(request.get("metadata"))
    if subject.reference is not None:
        item |= {"reference": subject.reference, "reference_answer": subject.reference}
    tools = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in completion.tool_calls
    ]
    message = {"role": "assistant", "content": completion.text, **({"tool_calls": tools} if tools else {})}
    sample = {
        "output_text": completion.text,
        "output_json": _json(completion.text),
        "output_tools": tools,
        "choices": [{"index": 0, "message": message, "finish_reason": completion.finish_reason}],
        "finish_reason": completion.finish_reason,
        "model": completion.model,
    }
    return {"item": item, "sample": sample}


def fill(text: str, values: Mapping[str, Any], wrap: Callable[[str, str], str] | None = None) -> str:
    """The text with its variables replaced. wrap: maps a variable's name and text to what is inserted.

    Raises MissingVariable.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        given = _at(values, name)
        if given is None:
            raise MissingVariable(name)
        written = given if isinstance(given, str) else orjson.dumps(given, default=str).decode()
        return wrap(name, written) if wrap else written

    return _VARIABLE.sub(value, text)


def _at(values: Any, path: str) -> Any:
    for name, index in _STEP.findall(path):
        if name and isinstance(values, Mapping):
            values = values.get(name)
        elif index and isinstance(values, list) and int(index) < len(values):
            values = values[int(index)]
        else:
            return None
    return values


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


MAX_COMPARED = 20_000  # of each text that are read
_GLEU_ORDER = 4


def similarity(metric: str, text: str, reference: str) -> float:
    """The similarity of two texts. metric: one of grader_json.Metric except cosine, which needs vectors."""
    text, reference = text[:MAX_COMPARED], reference[:MAX_COMPARED]
    if metric == "fuzzy_match":
        return float(fuzz.ratio(text, reference)) / 100
    if metric == "bleu":
        words, wanted = bleu.tokenize(text), bleu.tokenize(reference)
        return bleu.bleu(bleu.count_ngrams(words, [wanted]), effective=True)
    if metric == "gleu":
        return gleu(text.split(), reference.split())
    answer, right = rouge_l.rouge_words(text), rouge_l.rouge_words(reference)
    return rouge_l.f_measure(answer, right) if metric == "rouge_l" else ngram_f_measure(answer, right, int(metric[-1]))


def gleu(answer: Sequence[str], reference: Sequence[str]) -> float:
    """The smaller of precision and recall over all n-grams up to 4.

    Source: Wu et al., "Google's Neural Machine Translation System", arXiv:1609.08144, section 4.3.
    """
    both = found = wanted = 0
    for n in range(1, _GLEU_ORDER + 1):
        ours, theirs = bleu.count_grams(answer, n), bleu.count_grams(reference, n)
        both += (ours & theirs).total()
        found += ours.total()
        wanted += theirs.total()
    return both / max(found, wanted) if found or wanted else 0.0
