"""Reads of a decision from a chat engine that shows log-probabilities: one chat request for each question. Pure.

A reading is the way in which the engine is asked. It can be worthless although its answers look healthy, so no reading
is used for an alias without a probe of its own questions (`gateway decisions probe`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import orjson

from gateway.core.completion import usage_of
from gateway.core.decision import (
    Answer,
    DecisionReply,
    DecisionRequest,
    InvalidAnswer,
    OptionValue,
    Question,
    UnreadReason,
    jev_confidence,
    option_texts,
    unread,
)
from gateway.core.json_values import as_object, parse_object
from gateway.core.providers import CHATS, PROVIDERS

Reading = Literal["slot", "words", "letters", "structured"]
"""`slot`: the next token of a prefilled answer. `words`: the first word of a free reply. `letters`: the same with A, B
and C for options. `structured`: the value within an answer by a JSON schema."""
READINGS: tuple[Reading, ...] = ("slot", "words", "letters", "structured")

MIN_LABEL_MASS = 0.01
MOST_WIDTH = 0.02
"""Largest width of the bounds of an option's probability."""
MOST_READS = 64
"""Questions of one request, each of which is a request to the engine."""
MOST_READ_BYTES = 32 << 20
"""Bytes of the state, summed over the questions."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PREFILL = '{"answer": "'
_SLOT = re.compile(r'"answer"\s*:\s*"')
_REASONING = ("<think", "<|channel", "<reason", "[think", "<|begin_of_thought")
_THOUGHTS = frozenset({"reasoning_content", "reasoning"})
_STRUCTURED_TOKENS = 64
_ALL = 0.9999
_NO_CHANCE = -60.0
"""Logarithm of what no unconstrained model gives any token of its vocabulary's likeliest."""


class UnreadAnswer(InvalidAnswer):
    """A read that gives no answer, which is never a number."""

    def __init__(self, question: Question, reason: UnreadReason) -> None:
        super().__init__(f"question {question.key}: the read gives no answer: {reason}")
        self.reason: UnreadReason = reason


class UnreadableQuestion(ValueError):
    """A question that a reading cannot ask; the message says why."""


@dataclass(frozen=True, slots=True)
class ReadEngine:
    """Abilities of a chat engine."""

    top: int = 20
    """The longest list of alternatives that it gives; 0: it gives none."""
    continues: Mapping[str, Any] | None = None
    """Members with which it continues a last assistant message; None if it cannot."""
    template: bool = False
    """Whether it takes `chat_template_kwargs`."""


VLLM = ReadEngine(continues={"add_generation_prompt": False, "continue_final_message": True}, template=True)
LLAMA_CPP = ReadEngine(top=50, continues={"cache_prompt": True}, template=True)
OPENAI_CHAT = ReadEngine()
NO_LOGPROBS = ReadEngine(top=0)


def read_engine(kind: str, prefill: bool) -> ReadEngine:
    """The abilities of upstreams of a kind. prefill: whether they continue a last assistant message on request."""
    if kind in ("llamacpp", "llamafile"):
        return LLAMA_CPP
    if PROVIDERS[kind].dialect not in CHATS:
        return NO_LOGPROBS
    return VLLM if prefill else OPENAI_CHAT


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """The way in which the decisions of an alias are read from chats."""

    reading: Reading
    min_label_mass: float = MIN_LABEL_MASS
    one_hot: bool = False
    """Whether an answer without log-probabilities counts as certain, with probabilities 1 and 0."""
    both_orders: float = 0.0
    """Share of the calls whose questions are asked a second time, in the reverse order, to see whether that matters."""
    reverse: bool = False
    """List the options in the reverse order, to see whether that changes the answer."""


def labels_of(question: Question, reading: Reading, *, reverse: bool = False) -> tuple[str, ...]:
    """The texts of which the model gives one: one for each option. reverse: letters are in the order of the list."""
    if question.kind == "predicate":
        return ("yes", "no")
    if reading == "letters":
        count = len(question.options)
        letters = tuple(map(str, range(count))) if question.kind == "score" else tuple(LETTERS[:count])
        return letters[::-1] if reverse and question.kind == "choice" else letters
    if question.kind == "score":
        names = tuple([str(option.value) for option in question.options])
        if len(set(map(str.casefold, names))) == len(names):
            return names
    return option_texts(question)


def check_readable(question: Question, reading: Reading) -> None:
    """Raises UnreadableQuestion where no token could tell the options apart."""
    labels = labels_of(question, reading)
    at = f"question {question.key}"
    if len(labels) < len(question.options):
        raise UnreadableQuestion(f"{at} has {len(question.options)} options, and letters are enough for {len(labels)}")
    folded = sorted(label.strip().casefold() for label in labels)
    for one, following in pairwise(folded):
        if following.startswith(one):
            raise UnreadableQuestion(
                f"{at}: the option {one[:60]!r} is how {following[:60]!r} begins, and this model's decisions are read "
                "from the beginning of an option; rename one"
            )


_OTHER, _SHARED = -2, -1
_MOST_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class PreparedQuestion:
    """A question as a reading asks it, whatever the state is: most clients ask the same ones again and again."""

    question: Question
    before: str
    """The part of the prompt before the state."""
    after: str
    labels: tuple[str, ...]
    """Texts of which the model gives one, in lower case."""
    starts: Mapping[str, int]
    """Position of the label that begins so, or _SHARED if several do."""
    tokens: dict[str, int]
    """Position of the label to which a token belongs, of the tokens seen so far."""

    def owner(self, token: str) -> int:
        """Position of the label to which a token belongs; _SHARED, or _OTHER if it begins none."""
        text = token.strip(" \t\n\"'").casefold()
        found = self.starts.get(text)
        if found is None:
            ended = text.rstrip("\"'.,;:!}")
            found = self.labels.index(ended) if ended in self.labels else _OTHER
        if len(self.tokens) < _MOST_TOKENS:
            self.tokens[token] = found
        return found


def prepared(question: Question, settings: ReadSettings) -> PreparedQuestion:
    """Raises UnreadableQuestion."""
    reading = settings.reading
    check_readable(question, reading)
    shown = labels_of(question, reading, reverse=settings.reverse)
    labels = tuple([label.strip().casefold() for label in shown])
    starts: dict[str, int] = {}
    for position, label in enumerate(labels):
        for end in range(len(label), 0, -1):
            start = label[:end]
            starts[start] = _SHARED if start in starts else position
    return PreparedQuestion(question, *_prompt(shown, question, settings), labels, starts, {})


def _prompt(labels: Sequence[str], question: Question, settings: ReadSettings) -> tuple[str, str]:
    """The prompt before and after the state.

    The options come first and the question last: a small model that reads the options just before it answers repeats
    the first or the last of them, whatever the state is (docs/decisions.md has the figures).
    """
    options = []
    for label, option in zip(labels, question.options, strict=True):
        text = label if question.kind == "predicate" or settings.reading != "letters" else f"{label}: {option.value}"
        options.append(f"- {text} - {option.description}" if option.description else f"- {text}")
    before = "\n".join(["Options:", *(options[::-1] if settings.reverse else options)])
    asked = f"Is this true? {question.instructions}" if question.kind == "predicate" else question.instructions
    rule = _RULES.get(settings.reading)
    return f"{before}\n\n", f"\n\n{asked}" if rule is None else f"\n\n{asked}\n{rule}"


_RULES: Mapping[Reading, str] = {
    "words": "Answer with one option only.",
    "letters": "Answer with the label of one option only.",
    "structured": 'Answer with one option as JSON: {"answer": "…"}',
}


def write_reads(
    request: DecisionRequest,
    settings: ReadSettings,
    engine: ReadEngine,
    questions: Sequence[PreparedQuestion] | None = None,
) -> list[dict[str, Any]]:
    """The chat requests, one for each question, without their model.

    questions: the request's, prepared; None if they are to be prepared here.

    Raises UnreadableQuestion.
    """
    reading = settings.reading
    if reading == "slot" and engine.continues is None:
        raise UnreadableQuestion("the reading `slot` needs a server that continues a last assistant message")
    if not engine.top and not settings.one_hot:
        raise UnreadableQuestion("the server of this model shows no log-probabilities")
    state = request.state if isinstance(request.state, str) else orjson.dumps(request.state).decode()
    shared: dict[str, Any] = {"max_tokens": 1, "temperature": 0 if settings.one_hot else 1}
    if engine.top:
        shared |= {"logprobs": True, "top_logprobs": engine.top}
    if engine.template:
        shared["chat_template_kwargs"] = {"enable_thinking": False}
    if reading == "slot":
        shared |= engine.continues or {}
    first = [] if request.instructions is None else [{"role": "system", "content": request.instructions}]
    last = [{"role": "assistant", "content": PREFILL}] if reading == "slot" else []
    bodies = []
    for asked in questions or [prepared(question, settings) for question in request.questions]:
        user = {"role": "user", "content": f"{asked.before}{state}{asked.after}"}
        body = {"messages": [*first, user, *last], **shared}
        if reading == "structured":
            labels = labels_of(asked.question, reading)
            body |= {"max_tokens": _STRUCTURED_TOKENS, "response_format": _schema(labels)}
        bodies.append(body)
    return bodies


def _schema(labels: Sequence[str]) -> dict[str, Any]:
    schema = {
        "type": "object", "properties": {"answer": {"type": "string", "enum": list(labels)}},
        "required": ["answer"], "additionalProperties": False,
    }  # fmt: skip
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def read_answer(
    reply: Mapping[str, Any], question: Question, settings: ReadSettings, asked: PreparedQuestion | None = None
) -> Answer:
    """The answer in one chat reply. asked: the question, prepared; None if it is to be prepared here. Raises
    UnreadAnswer.

    Spellings in either case, with a blank or a quotation mark around them, count as one label. A label that is not
    listed has a probability between 0 and that of the last in the list; where that leaves any option's probability open
    by more than MOST_WIDTH, the read is truncated, and else the middle is taken.
    """
    asked = asked or prepared(question, settings)
    structured, content = settings.reading == "structured", None
    try:
        choice = reply["choices"][0]
        if "message" in choice:
            message = choice["message"]
            if not _THOUGHTS.isdisjoint(message) and any([message.get(name) for name in _THOUGHTS]):
                raise UnreadAnswer(question, "reasoning")
            content = message.get("content") if structured else None
        tokens = choice["logprobs"]["content"]
        entries, skipped = _at_value(tokens) if structured else (tokens[0]["top_logprobs"], 0)
        read = _masses(entries, asked, skipped)
    except (LookupError, TypeError, AttributeError):
        read = None
    if read is None:
        if structured and settings.one_hot:
            return _one_hot(content, question, asked.labels)
        raise UnreadAnswer(question, "no_logprobs")
    return _answer(question, read, settings)


def _answer(question: Question, read: _Read, settings: ReadSettings) -> Answer:
    masses, shared = read.masses, read.shared
    mass = sum(masses)
    if read.likeliest[:1] in "<[ " and read.likeliest.lstrip().lower().startswith(_REASONING):
        raise UnreadAnswer(question, "reasoning")
    if shared > MOST_WIDTH * (mass + shared):
        raise UnreadAnswer(question, "shared_start")
    if mass < settings.min_label_mass:
        raise UnreadAnswer(question, "label_mass")
    if mass + shared > _ALL and not read.others:
        raise UnreadAnswer(question, "renormalised")
    shares = [p / mass for p in masses] if 0.0 not in masses else _completed(read, mass)
    if shares is None:
        raise UnreadAnswer(question, "truncated")
    kind, mass = question.kind, mass if mass < 1.0 else 1.0
    if kind == "predicate":
        return Answer(kind, tuple(shares), label_mass=mass)
    if kind == "choice":
        top, even = max(shares), 1.0 / len(shares)
        value = question.options[shares.index(top)].value
        return Answer(kind, tuple(shares), value, None, (top - even) / (1.0 - even), "jev", mass)
    score = sum([level * p for level, p in enumerate(shares)])
    return Answer(kind, tuple(shares), None, score, jev_confidence(kind, shares), "jev", mass)


@dataclass(slots=True)
class _Read:
    """The alternatives at one position."""

    masses: list[float]
    """Probability of each label."""
    shared: float
    """Probability of the tokens with which several labels begin."""
    others: bool
    """Whether a token with which no label begins has a probability."""
    likeliest: str
    entries: Sequence[Mapping[str, Any]]


def _masses(entries: Sequence[Mapping[str, Any]], asked: PreparedQuestion, skipped: int) -> _Read | None:
    """The probabilities of labels; None for an empty list. A token counts for the one label that begins with it, since
    the tokens of a label are not known here. skipped: characters of the tokens before the value.

    Raises LookupError, TypeError or AttributeError for entries of another shape.
    """
    known, exp = asked.tokens, math.exp
    masses, shared, others = [0.0] * len(asked.labels), 0.0, False
    best, likeliest = _NO_CHANCE, None
    for entry in entries:
        logprob, token = entry["logprob"], entry["token"]
        if not logprob > _NO_CHANCE:
            continue
        if skipped:
            token = token[skipped:]
        if logprob > best:
            best, likeliest = logprob, token
        owner = known[token] if token in known else asked.owner(token)
        if owner == _OTHER:
            others = True
        elif owner == _SHARED:
            shared += exp(logprob) if logprob < 0.0 else 1.0
        else:
            masses[owner] += exp(logprob) if logprob < 0.0 else 1.0
    return None if likeliest is None else _Read(masses, shared, others, likeliest, entries)


def _completed(read: _Read, mass: float) -> list[float] | None:
    """The masses as shares of 1, with the middle of the bounds for labels that are not listed; None if too wide."""
    masses = read.masses
    listed = [math.exp(min(0.0, entry["logprob"])) for entry in read.entries if entry["logprob"] > _NO_CHANCE]
    left = max(0.0, 1.0 - math.fsum(listed))
    most = min(*listed, left) if listed else left
    unseen = min(masses.count(0.0) * most, left)
    widest = max(most / (mass + most), max(masses) / mass - max(masses) / (mass + unseen))
    if widest > MOST_WIDTH:
        return None
    filled = [p or most / 2 for p in masses]
    total = math.fsum(filled)
    return [p / total for p in filled]


def _at_value(tokens: Sequence[Any]) -> tuple[Sequence[Mapping[str, Any]], int]:
    """The alternatives where the value of "answer" begins, and how many characters of these tokens come before it.

    Raises LookupError or TypeError where there is none.
    """
    texts = [token["token"] for token in tokens]
    begin = _SLOT.search("".join(texts))
    if begin is None:
        raise LookupError
    start = 0
    for token, text in zip(tokens, texts, strict=True):
        if start <= begin.end() < start + len(text):
            return token["top_logprobs"], begin.end() - start
        start += len(text)
    raise LookupError


def _one_hot(content: Any, question: Question, labels: Sequence[str]) -> Answer:
    """The answer of a JSON text without log-probabilities, as certain. Raises UnreadAnswer."""
    answer = as_object(parse_object(content) if isinstance(content, str) else None).get("answer")
    text = answer.strip().casefold() if isinstance(answer, str) else None
    if text not in labels:
        raise UnreadAnswer(question, "no_option")
    place = labels.index(text)
    value: OptionValue | None = question.options[place].value if question.kind == "choice" else None
    shares = tuple([float(position == place) for position in range(len(labels))])
    return Answer(question.kind, shares, value, float(place) if question.kind == "score" else None, one_hot=True)


def read_answers(
    replies: Sequence[Mapping[str, Any]],
    questions: Sequence[Question],
    settings: ReadSettings,
    asked: Sequence[PreparedQuestion] | None = None,
) -> DecisionReply:
    """The answers of all reads as one reply. asked: the questions, prepared; None if they are to be prepared here. A
    question without an answer says why; tokens are summed."""
    answers, model = [], ""
    read = written = cached = 0
    for reply, each in zip(replies, asked or [prepared(q, settings) for q in questions], strict=True):
        try:
            answers.append(read_answer(reply, each.question, settings, each))
        except UnreadAnswer as error:
            answers.append(unread(each.question, error.reason))
        usage = usage_of(reply["usage"]) if "usage" in reply else None
        if usage is not None:
            read, written = read + usage.input_tokens, written + usage.output_tokens
            cached += usage.cached_input_tokens or 0
        if not model and "model" in reply and isinstance(reply["model"], str):
            model = reply["model"]
    return DecisionReply(model, tuple(answers), read, written, cached)
