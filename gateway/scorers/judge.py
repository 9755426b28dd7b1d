"""A language model as judge, called through the gateway (`use: judge`). judging/ builds prompts and reads verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.completion import Completion
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped
from gateway.scorers.judging import material, templates
from gateway.scorers.judging.model import (
    MAX_TOKENS,
    JudgeModel,
    JudgeQuestion,
    JudgeVerdict,
    NoVerdict,
    closed_object,
    expected_score,
    read_bool,
    read_number,
    read_reason,
    response_format,
    score_distribution,
)
from gateway.scorers.judging.repeats import RepeatedVerdict, RepeatPolicy, score_repeatedly
from gateway.scorers.judging.templates import Template
from gateway.scorers.judging.trajectory import trajectory_text
from gateway.scorers.preconditions import require_answer
from gateway.scoring.asker import Asker, total_spent
from gateway.scoring.options import InvalidOptions, ScorerOptions
from gateway.scoring.types import Golden, GoldenPair, GoldenRun, Pair, RunCall, RunSubject, Subject

JudgeKind = Literal["pointwise", "reference", "rubric", "groundedness", "pairwise"]
RUN_CRITERION = (
    "The agent did what the user asked for: the task is done, the result is right, no step did harm, none was needless."
)
CRITERION = "The answer does what the user asked for: it is right, complete and to the point."
NO_CONTEXT = Skipped("a context: system or tool messages, or the field that `context` names")
NO_REFERENCE = Skipped("a reference")
NO_STEPS = Skipped("a run whose content is recorded")
INCOMPLETE_RUN = Skipped("a run whose requests are recorded to their end")
MAX_CLAIMS = 50

_MATERIAL = {
    "pointwise": ("conversation", "answer"),
    "reference": ("conversation", "answer", "reference"),
    "rubric": ("conversation", "answer"),
    "groundedness": ("conversation", "answer", "context"),
    "pairwise": ("conversation", "answer_1", "answer_2", "reference"),
}
_NEEDED = {
    "pointwise": ("answer",),
    "reference": ("answer", "reference"),
    "rubric": ("answer", "items"),
    "groundedness": ("answer", "context"),
    "pairwise": ("answer_1", "answer_2"),
}


class RubricItem(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    ask: Annotated[str, Field(min_length=1)]
    """A statement that is true of a good answer; with a negative weight, of a bad one."""
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0


@dataclass(frozen=True, slots=True)
class JudgeOptions(ScorerOptions):
    """A judge's section in the config."""

    model: Annotated[str, Field(min_length=1)]
    """The alias to call."""
    kind: JudgeKind = "pointwise"
    unit: Literal["call", "run"] = "call"
    """run: judges the whole trajectory of a run, pointwise or by a rubric."""
    most_tokens: Annotated[int, Field(ge=200, le=15_000)] = 12_000
    """Approximate maximum for a trajectory; results of tools are shortened first, the oldest before the newest."""
    criterion: Annotated[str, Field(min_length=1)] | None = None
    """The criterion of the judge. Default: CRITERION."""
    template: str | None = None
    """A file with the prompt; None: the one of this kind in judging/templates."""
    scale: tuple[int, int] = (1, 5)
    items: tuple[RubricItem | str, ...] = ()
    """Items of a rubric; a string is an item of weight 1."""
    context: str | None = None
    """Path to the context in the request; None: its system and tool messages."""
    weighted: bool = True
    """Take the mean over the probabilities of the scores, where the upstream returns logprobs."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    max_repeats: Annotated[int, Field(ge=1, le=100)] | None = None
    standard_error: Annotated[float, Field(gt=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature. Default: 0, or 1 with repeats, since equal answers would say nothing about the judge's
    certainty."""
    max_tokens: Annotated[int, Field(ge=1)] = MAX_TOKENS
    params: dict[str, Any] | None = None
    """Additional members of the request, which override its own."""


def judge(name: str, asker: Asker, directory: Path, options: JudgeOptions) -> Judge | PairwiseJudge | RunJudge:
    """The judge of options.kind. Raises InvalidOptions and ValueError."""
    _check(options)
    kind, low, high = options.kind, *options.scale
    repeats = RepeatPolicy(options.repeats, options.max_repeats, options.standard_error)
    of_run = options.unit == "run"
    known = (*(("trajectory",) if of_run else _MATERIAL[kind]), "criterion", "low", "high", "items")
    needed = ("trajectory", *(name for name in _NEEDED[kind] if name == "items")) if of_run else _NEEDED[kind]
    template = templates.load(f"run_{kind}" if of_run else kind, options.template, directory, known, needed)
    temperature = options.temperature
    if temperature is None:
        temperature = 0.0 if (options.max_repeats or options.repeats) == 1 else 1.0
    model = JudgeModel(asker, options.model, temperature, options.max_tokens, options.params)
    criterion = options.criterion or (RUN_CRITERION if of_run else CRITERION)
    if kind == "pairwise":
        return PairwiseJudge(name, model, template, criterion, repeats)
    items = tuple(RubricItem(ask=i) if isinstance(i, str) else i for i in options.items)
    settings = JudgeSettings(model, template, criterion, low, high, items, options.context, options.weighted, repeats)
    made = _KINDS[kind](name, settings)
    return RunJudge(name, made, options.most_tokens) if of_run else made


def _check(options: JudgeOptions) -> None:
    kind, scale, items = options.kind, options.scale, options.items
    lines = []
    if not 0 <= scale[0] < scale[1] <= 1000:
        lines.append(f".scale: {list(scale)} is not a scale: expected [low, high], as [1, 5]")
    if options.unit == "run" and kind not in _OF_RUNS:
        lines.append(f".kind: a run is judged pointwise or by a rubric, and this judge is {kind}")
    if kind == "rubric" and not items:
        lines.append(".items: missing; a rubric needs items, as [{ask: …, weight: 1}]")
    if kind != "rubric" and items:
        lines.append(f".items: only a rubric has items, and this judge is {kind}")
    if kind == "rubric" and options.criterion is not None:
        lines.append(".criterion: a rubric's items are its criterion; name them in `items`")
    if kind != "groundedness" and options.context is not None:
        lines.append(f".context: only groundedness uses a context, and this judge is {kind}")
    if any(item.weight == 0 for item in items if isinstance(item, RubricItem)):
        lines.append(".items: an item of weight 0 has no effect; leave it out")
    if lines:
        raise InvalidOptions(lines)


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Settings that a judge of single answers is built from."""

    model: JudgeModel
    template: Template
    criterion: str
    low: int
    high: int
    items: tuple[RubricItem, ...]
    context: str | None
    weighted: bool
    repeats: RepeatPolicy


@dataclass(frozen=True, slots=True)
class JudgeScorer:
    """Base of all judges."""

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "llm"
    direction: ClassVar[Direction] = "maximise"
    bounds: ClassVar[Bounds] = (0.0, 1.0)
    heavy: ClassVar[bool] = False

    name: str


@dataclass(frozen=True, slots=True)
class Judge(JudgeScorer):
    """Base of the judges of single answers: their preconditions, prompt and repeats."""

    settings: JudgeSettings

    @property
    def fingerprint(self) -> str:
        return self.settings.template.digest

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases that it calls."""
        return (self.settings.model.model,)

    def missing(self, subject: Subject) -> Skipped | None:
        """Requirement that the subject lacks; None means that it can be judged."""
        return require_answer(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := self.missing(subject):
            return skipped
        texts = self.material(subject)
        return await score_repeatedly(lambda seed: self.verdict(texts, seed), self.settings.repeats)

    def material(self, subject: Subject) -> dict[str, str]:
        """The texts that fill the template, by name."""
        return {
            "conversation": material.conversation(subject.request),
            "answer": material.answer(subject.completion),
        }

    async def verdict(self, texts: Mapping[str, str], seed: int) -> RepeatedVerdict:
        raise NotImplementedError

    def messages(self, texts: Mapping[str, str], instruction: str) -> list[dict[str, str]]:
        s = self.settings
        items = "\n".join(f"{n}. {item.ask}" for n, item in enumerate(s.items, 1))
        own = {"criterion": s.criterion, "low": str(s.low), "high": str(s.high), "items": items}
        return s.template.messages(own, texts, instruction)

    def golden(self) -> tuple[Golden, ...]:
        """Cases that need no call; the model's answers are calibrated, not checked here."""
        return (
            Golden("a rejected request has no answer", {}, Completion(error="overloaded"), None, {"status": 503}),
            Golden("embeddings have no answer", {}, Completion(), None, {"api": "embeddings"}),
        )


class Pointwise(Judge):
    """A score on a scale, by a criterion; the mean over the scores' probabilities where the model returns them."""

    __slots__ = ()

    async def verdict(self, texts: Mapping[str, str], seed: int) -> RepeatedVerdict:
        s = self.settings
        instruction = (
            'Answer with one JSON object: {"reason": "…", "score": N}, where N is a whole number '
            f"from {s.low} to {s.high}."
        )
        score = {"type": "integer", "minimum": s.low, "maximum": s.high}
        form = response_format("verdict", {"reason": {"type": "string"}, "score": score})
        question = JudgeQuestion(self.messages(texts, instruction), "score", form, self._score, seed)
        return self._value(await s.model.verdict(question, logprobs=s.weighted))

    def _score(self, verdict: dict[str, Any]) -> float:
        return read_number(verdict, "score", self.settings.low, self.settings.high)

    def _value(self, verdict: JudgeVerdict[float]) -> RepeatedVerdict:
        s = self.settings
        weights = score_distribution(verdict.tokens, "score", s.low, s.high) if s.weighted else None
        score = expected_score(weights) if weights else verdict.value
        return RepeatedVerdict(
            value=(score - s.low) / (s.high - s.low),
            reason=read_reason(verdict.raw),
            label=f"{verdict.value:g} of {s.high}",
            spent=verdict.spent,
            distribution=weights,
            detail={"score": score},
        )


class Reference(Pointwise):
    """A score on a scale for how far the answer agrees with a reference."""

    __slots__ = ()

    def missing(self, subject: Subject) -> Skipped | None:
        return require_answer(subject) or (NO_REFERENCE if not subject.reference else None)

    def material(self, subject: Subject) -> dict[str, str]:
        return {**Judge.material(self, subject), "reference": subject.reference or ""}

    def golden(self) -> tuple[Golden, ...]:
        return (*Judge.golden(self), Golden("no reference", {}, Completion("Paris", finish_reason="stop"), None))


class Rubric(Judge):
    """The share of the weight of the items with the desired result: true, or false for a negative weight."""

    __slots__ = ()

    async def verdict(self, texts: Mapping[str, str], seed: int) -> RepeatedVerdict:
        n = len(self.settings.items)
        instruction = (
            'Answer with one JSON object: {"items": [{"reason": "…", "met": true or false}, …]}, '
            f"with {n} entries, in the order of the items."
        )
        entry = closed_object({"reason": {"type": "string"}, "met": {"type": "boolean"}})
        form = response_format("verdict", {"items": {"type": "array", "items": entry, "minItems": n, "maxItems": n}})
        question = JudgeQuestion(self.messages(texts, instruction), "items", form, self._met, seed)
        verdict = await self.settings.model.verdict(question)
        items = self.settings.items
        right = sum(abs(i.weight) for i, met in zip(items, verdict.value, strict=True) if met == (i.weight > 0))
        missed = [i.ask for i, met in zip(items, verdict.value, strict=True) if met != (i.weight > 0)]
        return RepeatedVerdict(
            value=right / sum(abs(i.weight) for i in items),
            reason="all items have the desired result" if not missed else "not as wanted: " + "; ".join(missed),
            label=f"{n - len(missed)} of {n}",
            spent=verdict.spent,
            detail={f"item_{at}": float(met) for at, met in enumerate(verdict.value, 1)},
        )

    def _met(self, verdict: dict[str, Any]) -> list[bool]:
        entries = verdict["items"]
        if not isinstance(entries, list) or len(entries) != len(self.settings.items):
            got = len(entries) if isinstance(entries, list) else "none"
            raise NoVerdict(f'"items" has {got} entries, expected {len(self.settings.items)}')
        return [read_bool(e.get("met") if isinstance(e, dict) else e) for e in entries]


class Groundedness(Judge):
    """The share of the answer's claims that the context supports; 1 when it makes no claim."""

    __slots__ = ()

    def missing(self, subject: Subject) -> Skipped | None:
        return require_answer(subject) or (None if self._context(subject).strip() else NO_CONTEXT)

    def material(self, subject: Subject) -> dict[str, str]:
        return {**Judge.material(self, subject), "context": self._context(subject)}

    def _context(self, subject: Subject) -> str:
        return material.context(subject.request, self.settings.context)

    async def verdict(self, texts: Mapping[str, str], seed: int) -> RepeatedVerdict:
        instruction = (
            'Answer with one JSON object: {"claims": [{"claim": "…", "supported": true or false}, …]}; '
            "with an empty list when the answer claims nothing."
        )
        entry = closed_object({"claim": {"type": "string"}, "supported": {"type": "boolean"}})
        form = response_format("verdict", {"claims": {"type": "array", "items": entry, "maxItems": MAX_CLAIMS}})
        verdict = await self.settings.model.verdict(
            JudgeQuestion(self.messages(texts, instruction), "claims", form, _claims, seed)
        )
        claims = verdict.value
        unfounded = [claim for claim, supported in claims if not supported]
        return RepeatedVerdict(
            value=1.0 - len(unfounded) / len(claims) if claims else 1.0,
            reason="not in the context: " + "; ".join(unfounded) if unfounded else "nothing beyond the context",
            label=f"{len(claims) - len(unfounded)} of {len(claims)} claims",
            spent=verdict.spent,
            detail={"claims": len(claims), "unsupported": len(unfounded)},
        )

    def golden(self) -> tuple[Golden, ...]:
        return (*Judge.golden(self), Golden("no context", {}, Completion("Paris", finish_reason="stop"), None))


def _claims(verdict: dict[str, Any]) -> list[tuple[str, bool]]:
    entries = verdict["claims"]
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise NoVerdict('"claims" is not a list of objects')
    return [(str(e.get("claim", "")), read_bool(e.get("supported"))) for e in entries[:MAX_CLAIMS]]


_KINDS: Mapping[str, type[Judge]] = {
    "pointwise": Pointwise,
    "reference": Reference,
    "rubric": Rubric,
    "groundedness": Groundedness,
}


_OF_RUNS = ("pointwise", "rubric")


@dataclass(frozen=True, slots=True)
class RunJudge(JudgeScorer):
    """A judge of whole runs: the task, and the agent's messages, calls and results, within a number of tokens."""

    judge: Judge
    """Asks and reads; its template shows a trajectory."""
    most_tokens: int

    @property
    def fingerprint(self) -> str:
        return self.judge.fingerprint

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases that it calls."""
        return self.judge.models

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        if not run.complete:
            return INCOMPLETE_RUN
        if not run.steps:
            return NO_STEPS
        texts = {"trajectory": trajectory_text(run, self.most_tokens)}
        return await score_repeatedly(lambda seed: self.judge.verdict(texts, seed), self.judge.settings.repeats)

    def golden(self) -> tuple[GoldenRun, ...]:
        """Cases that need no call."""
        calls = (RunCall(text="Done."),)
        return (
            GoldenRun("nothing recorded", RunSubject("r", calls), None),
            GoldenRun("cut off", RunSubject("r", calls, complete=False), None),
        )


Side = Literal["a", "b"]
_INSTRUCTION = 'Answer with one JSON object: {"reason": "…", "better": "1"}, where better is "1", "2" or "neither".'
_FORMAT = response_format(
    "verdict", {"reason": {"type": "string"}, "better": {"type": "string", "enum": ["1", "2", "neither"]}}
)


@dataclass(frozen=True, slots=True)
class PairwiseJudge(JudgeScorer):
    """The preference for b over a: 1, 0, or ½ for a tie. The judge sees both orders; a preference that flips is a tie.

    Equal answers are a tie without a call. detail: flip, 1 when the preference changed with the order; first_slot, 1
    when the answer shown first in pair.first's order won, ½ when neither did.
    """

    model: JudgeModel
    template: Template
    criterion: str
    repeats: RepeatPolicy

    @property
    def fingerprint(self) -> str:
        return self.template.digest

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases that it calls."""
        return (self.model.model,)

    async def compare(self, pair: Pair) -> Score | Skipped:
        if skipped := require_answer(pair.a) or require_answer(pair.b):
            return skipped
        texts = {"a": material.answer(pair.a.completion), "b": material.answer(pair.b.completion)}
        if texts["a"].strip() == texts["b"].strip():
            return Score(0.5, "the same", "both answers are equal")
        return await score_repeatedly(lambda seed: self._both_orders(pair, texts, seed), self.repeats)

    async def _both_orders(self, pair: Pair, texts: Mapping[str, str], seed: int) -> RepeatedVerdict:
        second: Side = "b" if pair.first == "a" else "a"
        original = await self._winner(pair, texts, pair.first, seed)
        swapped = await self._winner(pair, texts, second, seed)
        won = {1: pair.first, 2: second}.get(original.value), {1: second, 2: pair.first}.get(swapped.value)
        flip = None not in won and won[0] != won[1]
        value = sum({"a": 0.0, "b": 1.0}.get(side or "", 0.5) for side in won) / 2
        return RepeatedVerdict(
            value=value,
            reason=_reason(original, swapped, pair.first, flip),
            label="tie" if value == 0.5 else "b" if value > 0.5 else "a",
            spent=total_spent([v.spent for v in (original, swapped) if v.spent is not None]),
            detail={"flip": float(flip), "first_slot": {1: 1.0, 2: 0.0}.get(original.value, 0.5)},
        )

    async def _winner(self, pair: Pair, texts: Mapping[str, str], first: Side, seed: int) -> JudgeVerdict[int]:
        """The answer that wins, by its position in the prompt: 1, 2, or 0 for neither."""
        shown = (texts["a"], texts["b"]) if first == "a" else (texts["b"], texts["a"])
        material_texts = {
            "conversation": material.conversation(pair.a.request),
            "answer_1": shown[0],
            "answer_2": shown[1],
            "reference": pair.a.reference or "",
        }
        messages = self.template.messages({"criterion": self.criterion}, material_texts, _INSTRUCTION)
        return await self.model.verdict(JudgeQuestion(messages, "better", _FORMAT, _better, seed))

    def golden(self) -> tuple[GoldenPair, ...]:
        paris = Completion("Paris", finish_reason="stop")
        failed = Completion(error="overloaded")
        return (
            GoldenPair("the same answer twice is a tie", {}, paris, paris, 0.5),
            GoldenPair("no answer", {}, failed, failed, None, {"status": 503}),
        )


def _better(verdict: dict[str, Any]) -> int:
    answer = str(verdict["better"]).strip().lower()
    positions = {"1": 1, "answer 1": 1, "2": 2, "answer 2": 2, "neither": 0, "tie": 0, "both": 0, "equal": 0, "0": 0}
    if answer not in positions:
        raise NoVerdict(f'"better" is {verdict["better"]!r}, expected "1", "2" or "neither"')
    return positions[answer]


def _reason(original: JudgeVerdict[int], swapped: JudgeVerdict[int], first: Side, flip: bool) -> str:
    order = f"with {first} first: {read_reason(original.raw) or 'no reason given'}"
    other = f"with {'b' if first == 'a' else 'a'} first: {read_reason(swapped.raw) or 'no reason given'}"
    return f"{'The preference changed with the order, so it is a tie. ' if flip else ''}{order} — {other}"
