"""JSON schemas whose answers are decisions: each member is a yes or no, one of a list, or one of at most ten numbers.

A schema that asks for anything else is ineligible, with a reason from a closed list: a decision never gives a part of
an answer. `render` writes the object that the schema asks for, and nothing that the answers do not give.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import orjson

from gateway.core.decision import (
    FEWEST_OPTIONS,
    MOST_LEVELS,
    MOST_OPTIONS,
    MOST_QUESTIONS,
    OUTCOMES,
    Answer,
    Option,
    Question,
    option_texts,
)
from gateway.core.json_values import as_object

IneligibleReason = Literal[
    "no_schema", "free_text", "nested", "combined", "number", "options", "values", "keywords", "contradiction",
    "required", "questions", "schema_changes", "several_answers", "logprobs", "tools", "stored", "prefill", "input",
    "too_large", "unreadable", "uncertified", "alike",
]  # fmt: skip
INELIGIBLE: Mapping[IneligibleReason, str] = {
    "no_schema": "the request asks for no JSON schema",
    "free_text": "a member of the schema is free text",
    "nested": "a member of the schema is an object or a list",
    "combined": "the schema combines others, as by oneOf or anyOf",
    "number": f"a member is a number that is not a whole one of at most {MOST_LEVELS} values",
    "options": f"a member has fewer than {FEWEST_OPTIONS} or more than {MOST_OPTIONS} different options",
    "values": "an option is neither a text, a boolean nor a whole number",
    "keywords": "the schema limits its answers by a keyword that a decision cannot follow",
    "contradiction": "a description contradicts the name, the options or the range of its member",
    "required": "the schema requires a member that it does not describe, which a decision would have to invent",
    "questions": f"the schema has no member, or more than {MOST_QUESTIONS}",
    "schema_changes": "callers send another schema with each call",
    "several_answers": "the request asks for several answers",
    "logprobs": "the request asks for log-probabilities of tokens",
    "tools": "the request has tools or their calls",
    "stored": "the answer continues or becomes state that an upstream keeps",
    "prefill": "the request ends with the beginning of its answer",
    "input": "the input has a part that a decision does not take, such as audio or a file",
    "too_large": "the request is larger than a megabyte",
    "unreadable": "the request's body cannot be read",
    "uncertified": "no certificate is in force for each of its questions",
    "alike": "the options of a member cannot be told apart by the reading of the chat engine",
}
"""Meaning of each reason, for people."""


class Ineligible(ValueError):
    """A request cannot be asked as a decision. The message is the reason's name, and never holds content."""

    def __init__(self, reason: IneligibleReason) -> None:
        super().__init__(reason)
        self.reason: IneligibleReason = reason


class Member(NamedTuple):
    """A member of the answer's object, and the question that gives it."""

    name: str
    question: Question
    values: tuple[str | bool | int, ...]
    """The value for each option of the question, in their order."""
    texts: tuple[str, ...]
    """The options as different texts."""


@dataclass(frozen=True, slots=True)
class DecisionSchema:
    """The members of an answer, in the order of the schema."""

    members: tuple[Member, ...]
    questions: tuple[Question, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "questions", tuple([member.question for member in self.members]))

    def render(self, answers: Sequence[Answer]) -> bytes:
        """The object that the schema asks for, as JSON. Raises ValueError where a question was refused."""
        pairs = zip(self.members, answers, strict=True)
        return orjson.dumps({member.name: member.values[chosen(answer)] for member, answer in pairs})

    def read(self, text: str | bytes) -> tuple[Answer | None, ...]:
        """The answers that an object in JSON states: each is certain. None for a member that is missing, or whose value
        is not an option; () for a text that is not an object."""
        try:
            stated = orjson.loads(text)
        except ValueError:
            return ()
        if not isinstance(stated, dict):
            return ()
        return tuple([self._certain(member, stated.get(member.name)) for member in self.members])

    def _certain(self, member: Member, value: Any) -> Answer | None:
        place = next((n for n, option in enumerate(member.values) if same_value(option, value)), None)
        return None if place is None else certain(member.question, place)


def chosen(answer: Answer) -> int:
    """The place of the option that an answer decides for: the likeliest, and the first of equal ones.

    Raises ValueError for a refusal."""
    if answer.refused:
        raise ValueError("a refusal decides for no option")
    return answer.probabilities.index(max(answer.probabilities))


def certain(question: Question, place: int) -> Answer:
    """The answer that gives one option the whole probability."""
    shares = tuple([float(n == place) for n in range(len(question.options))])
    value = question.options[place].value if question.kind == "choice" else None
    return Answer(question.kind, shares, value, float(place) if question.kind == "score" else None)


def same_value(option: str | bool | int, value: Any) -> bool:
    """Whether a value of an answer is this option. 2.0 is the whole number 2 in JSON, and `true` is not 1."""
    if isinstance(option, bool) or isinstance(value, bool) or isinstance(option, str):
        return type(option) is type(value) and bool(option == value)
    return isinstance(value, int | float) and value == option


_ROOT = frozenset({
    "type", "properties", "required", "additionalProperties", "$schema", "$id", "$defs", "definitions", "title",
    "description", "$comment", "examples", "default", "strict", "propertyOrdering",
})  # fmt: skip
_MEMBER = frozenset({
    "type", "enum", "title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "format",
})  # fmt: skip
_COMBINED = frozenset({
    "oneOf", "anyOf", "allOf", "not", "if", "then", "else", "$ref", "$dynamicRef", "dependentSchemas",
    "dependentRequired", "dependencies", "patternProperties", "propertyNames",
})  # fmt: skip
_STEPS = 8  # references that one member may follow


def read_schema(schema: Any) -> DecisionSchema:
    """The members of a JSON schema. Raises Ineligible."""
    root = _resolved(schema, as_object(schema))
    if _COMBINED & root.keys():
        raise Ineligible("combined")
    properties = root.get("properties")
    if root.get("type", "object") != "object" or not isinstance(properties, dict):
        raise Ineligible("no_schema" if not root else "nested" if root.get("type") == "array" else "questions")
    if root.keys() - _ROOT:
        raise Ineligible("keywords")
    required = root.get("required", [])
    if not isinstance(required, list) or any(name not in properties for name in required):
        raise Ineligible("required")
    if isinstance(root.get("additionalProperties"), dict):
        raise Ineligible("nested")
    if not 1 <= len(properties) <= MOST_QUESTIONS:
        raise Ineligible("questions")
    return DecisionSchema(
        tuple([_member(name, f"q{n}", _resolved(member, root)) for n, (name, member) in enumerate(properties.items())])
    )


def _resolved(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with the definition that it refers to, which its own keywords go before. A list of one schema in
    `allOf` is such a reference too, as older generators write it."""
    merged = as_object(schema)
    for _ in range(_STEPS):
        own = merged.get("allOf")
        if isinstance(own, list) and len(own) == 1 and isinstance(own[0], dict):
            merged = {**own[0], **{name: value for name, value in merged.items() if name != "allOf"}}
            continue
        reference = merged.get("$ref")
        if not isinstance(reference, str):
            return merged
        section, _, name = reference.removeprefix("#/").partition("/")
        target = as_object(root.get(section)).get(name) if section in ("$defs", "definitions") else None
        if not isinstance(target, dict):
            raise Ineligible("combined")
        merged = {**target, **{key: value for key, value in merged.items() if key != "$ref"}}
    raise Ineligible("combined")


def _member(name: str, key: str, schema: dict[str, Any]) -> Member:
    if _COMBINED & schema.keys():
        raise Ineligible("combined")
    kind = schema.get("type")
    if kind in ("object", "array") or "properties" in schema or "items" in schema:
        raise Ineligible("nested")
    if isinstance(kind, list):
        raise Ineligible("combined")
    schema = _with_written_bounds(schema) if kind == "integer" else schema
    values = _values(schema, kind)
    if schema.keys() - _MEMBER:
        raise Ineligible("keywords")
    description = schema.get("description")
    described = description if isinstance(description, str) and description.strip() else None
    if described is not None and _contradicts(name, described, values):
        raise Ineligible("contradiction")
    question = _question(key, name, described or _words(name), values)
    return Member(name, question, values, option_texts(question))


def _values(schema: dict[str, Any], kind: Any) -> tuple[str | bool | int, ...]:
    """The values that a member may have, in the order of the options."""
    enum = schema.get("enum")
    if enum is None and "const" in schema:
        raise Ineligible("options")
    if enum is not None:
        return _listed(enum, kind)
    if kind == "boolean":
        return (True, False)
    if kind == "integer":
        return _range(schema)
    raise Ineligible("number" if kind == "number" else "free_text")


_BOUNDS = r"(?:exclusiveM|m)(?:in|ax)imum: -?\d{1,9}"
_WRITTEN_BOUNDS = re.compile(rf"\s*\{{({_BOUNDS}(?:, {_BOUNDS})*)\}}\s*$")


def _with_written_bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the bounds that its description ends with: Anthropic's clients move them there, since its API
    takes none."""
    description = schema.get("description")
    written = _WRITTEN_BOUNDS.search(description) if isinstance(description, str) else None
    if written is None or not isinstance(description, str):
        return schema
    bounds = {name: int(value) for name, value in (bound.split(": ") for bound in written[1].split(", "))}
    return {**bounds, **schema, "description": description[: written.start()]}


_TYPES: Mapping[str, type] = {"string": str, "boolean": bool, "integer": int}


def _listed(enum: Any, kind: Any) -> tuple[str | bool | int, ...]:
    if not isinstance(enum, list) or not FEWEST_OPTIONS <= len(enum) <= MOST_OPTIONS:
        raise Ineligible("options")
    if any(type(value) not in (str, bool, int) or value == "" for value in enum):
        raise Ineligible("values")
    if kind is not None and any(type(value) is not _TYPES.get(kind) for value in enum):
        raise Ineligible("values")
    if len({_text(value) for value in enum}) < len(enum):
        raise Ineligible("options")
    if all(type(value) is bool for value in enum):
        return (True, False)
    whole = sorted(value for value in enum if type(value) is int)
    consecutive = len(whole) == len(enum) <= MOST_LEVELS and whole[-1] - whole[0] == len(whole) - 1
    return tuple(whole if consecutive else enum)


def _range(schema: dict[str, Any]) -> tuple[int, ...]:
    """The whole numbers from the lowest to the highest that the schema allows."""
    low = _bound(schema.get("minimum"), schema.get("exclusiveMinimum"), 1)
    high = _bound(schema.get("maximum"), schema.get("exclusiveMaximum"), -1)
    if low is None or high is None or not FEWEST_OPTIONS <= high - low + 1 <= MOST_LEVELS:
        raise Ineligible("number")
    return tuple(range(low, high + 1))


def _bound(inclusive: Any, exclusive: Any, step: int) -> int | None:
    """The outermost whole number that both bounds allow. step: 1 for a lower bound, -1 for an upper one."""
    bounds = list[int]()
    for bound, more in ((inclusive, 0), (exclusive, step)):
        if type(bound) is float and bound.is_integer() and abs(bound) < 1e15:
            bound = int(bound)
        if type(bound) is int:
            bounds.append(bound + more)
        elif bound is not None:
            return None
    return None if not bounds else max(bounds) if step > 0 else min(bounds)


def _question(key: str, name: str, instructions: str, values: tuple[str | bool | int, ...]) -> Question:
    if values == (True, False):
        return Question("predicate", key, name, instructions, OUTCOMES)
    score = all(type(value) is int for value in values) and _rises(values)
    options = tuple([Option(value if isinstance(value, str | bool) else str(value)) for value in values])
    return Question("score" if score else "choice", key, name, instructions, options)


def _rises(values: Sequence[Any]) -> bool:
    return len(values) <= MOST_LEVELS and all(b - a == 1 for a, b in pairwise(values))


def _text(value: str | bool | int) -> str | bool:
    """A value as an option: numbers become texts."""
    return value if isinstance(value, str | bool) else str(value)


_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")


def _words(name: str) -> str:
    """The words of a member's name: `needsRefund` and `needs_refund` are "needs refund"."""
    return " ".join(part.lower() for part in _PARTS.findall(name)) or name


_NEGATION = r"(?:not|no|never|without|cannot|non|n't)"
_NEGATIVE_NAME = re.compile(r"\b(?:not|no|non|never|without|un|is not)\b")
_RANGE = re.compile(r"(?<![\d.-])(-?\d{1,6})\s*(?:-|–|\.\.|to|through|and)\s*(-?\d{1,6})(?![\d.])")
_OFFERED = re.compile(r"\b(?:one of|either|choose|pick|use|answer|return|options?|values?)\b[^.;\n]*", re.IGNORECASE)
_QUOTED = re.compile(r"[\"'`“‘]([\w-]+)[\"'`”’]")
_SHORT = ("is", "has", "are", "was", "the", "needs", "can", "should")


def _contradicts(name: str, description: str, values: tuple[str | bool | int, ...]) -> bool:
    """Whether a description says the opposite of its member's name, offers an option that the schema does not have, or
    names another range. It finds such sentences, not every contradiction."""
    if values == (True, False):
        return _denies(_words(name), description.lower())
    if all(type(value) is int for value in values):
        ranges = [(int(a), int(b)) for a, b in _RANGE.findall(description)]
        return bool(ranges) and (values[0], values[-1]) not in ranges
    texts = {str(value).lower() for value in values}
    offered = (quoted for span in _OFFERED.findall(description) for quoted in _QUOTED.findall(span))
    return any(word.lower() not in texts for word in offered)


def _denies(name: str, description: str) -> bool:
    """Whether the description negates a word of the name, or says that false means it."""
    if _NEGATIVE_NAME.search(name):
        return False
    stems = [re.escape(word[:5]) for word in name.split() if word not in _SHORT and len(word) > 2]
    if not stems:
        return False
    word = rf"\b(?:{'|'.join(stems)})"
    negated = rf"(?:\b|(?<=\w)(?=n't)){_NEGATION}\b(?:[\s-]+[\w']+){{0,3}}?[\s-]+{word}"
    reversed_ = rf"\bfalse\b[^.;,]{{0,20}}\b(?:if|when|for|means)\b[^.;,]{{0,60}}{word}"
    straight = rf"\btrue\b[^.;,]{{0,20}}\b(?:if|when|for|means)\b[^.;,]{{0,60}}{word}"
    if re.search(straight, description) and not re.search(rf"\btrue\b[^.;,]{{0,80}}{negated}", description):
        return False
    return re.search(negated, description) is not None or re.search(reversed_, description) is not None
