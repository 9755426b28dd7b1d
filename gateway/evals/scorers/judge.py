"""A language model as judge, asked through the gateway: `use: judge`, with a `kind`. judging/ knows how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.completion import Completion
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped
from gateway.evals.scorers.judging import material, templates, verdicts, weighting
from gateway.evals.scorers.judging.model import MAX_TOKENS, JudgeModel, JudgeQuestion, JudgeVerdict
from gateway.evals.scorers.judging.repeats import RepeatedVerdict, RepeatPolicy, score_repeatedly
from gateway.evals.scorers.judging.templates import Template
from gateway.evals.scorers.preconditions import require_answer
from gateway.evals.scoring.asker import Asker, total_spent
from gateway.evals.scoring.options import InvalidOptions
from gateway.evals.scoring.pairs import GoldenPair, Pair
from gateway.evals.scoring.types import Golden, Subject

JudgeKind = Literal["pointwise", "reference", "rubric", "groundedness", "pairwise"]
CRITERION = "The answer does what the user asked for: it is right, complete and to the point."
NO_CONTEXT = Skipped("a context to rest on: system or tool messages, or the field that `context` names")
NO_REFERENCE = Skipped("a reference")
MOST_CLAIMS = 50

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
    """One yes/no item of a rubric. ask: what is true of a good answer; of a bad one, with a negative weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ask: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0


def judge(
    name: str,
    asker: Asker,
    directory: Path,
    model: Annotated[str, Field(min_length=1)],
    kind: JudgeKind = "pointwise",
    criterion: Annotated[str, Field(min_length=1)] | None = None,
    template: str | None = None,
    scale: tuple[int, int] = (1, 5),
    items: tuple[RubricItem | str, ...] = (),
    context: str | None = None,
    weighted: bool = True,
    repeats: Annotated[int, Field(ge=1, le=100)] = 1,
    max_repeats: Annotated[int, Field(ge=1, le=100)] | None = None,
    standard_error: Annotated[float, Field(gt=0)] | None = None,
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None,
    max_tokens: Annotated[int, Field(ge=1)] = MAX_TOKENS,
    params: dict[str, Any] | None = None,
) -> Judge | PairwiseJudge:
    """The judge of that kind. temperature: None: 0, or 1 where it is asked several times, since the same answer each
    time would say nothing of how sure it is. Raises Mistaken and ValueError."""
    _check(kind, criterion, scale, items, context)
    often = RepeatPolicy(repeats, max_repeats, standard_error)
    known = (*_MATERIAL[kind], "criterion", "low", "high", "items")
    loaded = templates.load(kind, template, directory, known, _NEEDED[kind])
    if temperature is None:
        temperature = 0.0 if (max_repeats or repeats) == 1 else 1.0
    asked = JudgeModel(asker, model, temperature, max_tokens, params)
    if kind == "pairwise":
        return PairwiseJudge(name, asked, loaded, criterion or CRITERION, often)
    listed = tuple(RubricItem(ask=i) if isinstance(i, str) else i for i in items)
    low, high = scale
    setting = JudgeSettings(asked, loaded, criterion or CRITERION, low, high, listed, context, weighted, often)
    return _KINDS[kind](name, setting)


def _check(
    kind: str, criterion: str | None, scale: tuple[int, int], items: tuple[RubricItem | str, ...], context: str | None
) -> None:
    lines = []
    if not 0 <= scale[0] < scale[1] <= 1000:
        lines.append(f".scale: {list(scale)} is no scale: expected [low, high], as [1, 5]")
    if kind == "rubric" and not items:
        lines.append(".items: missing; a rubric needs items, as [{ask: …, weight: 1}]")
    if kind != "rubric" and items:
        lines.append(f".items: only a rubric has items, and this judge is {kind}")
    if kind == "rubric" and criterion is not None:
        lines.append(".criterion: a rubric's items are its criterion; name them in `items`")
    if kind != "groundedness" and context is not None:
        lines.append(f".context: only groundedness looks at a context, and this judge is {kind}")
    weights = [i.weight for i in items if isinstance(i, RubricItem)]
    if items and any(w == 0 for w in weights):
        lines.append(".items: an item of weight 0 decides nothing; leave it out")
    if lines:
        raise InvalidOptions(lines)


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """What a judge was told in the config."""

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
class Judge:
    """What the kinds have in common: when there is something to judge, the prompt, the repeats."""

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "llm"
    direction: ClassVar[Direction] = "maximise"
    bounds: ClassVar[Bounds] = (0.0, 1.0)
    heavy: ClassVar[bool] = False

    name: str
    setting: JudgeSettings

    @property
    def fingerprint(self) -> str:
        return self.setting.template.digest

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases it asks."""
        return (self.setting.model.model,)

    def lacks(self, subject: Subject) -> Skipped | None:
        return require_answer(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        if lacking := self.lacks(subject):
            return lacking
        given = self.material(subject)
        return await score_repeatedly(lambda seed: self.opinion(given, seed), self.setting.repeats)

    def material(self, subject: Subject) -> dict[str, str]:
        return {
            "conversation": material.conversation(subject.request),
            "answer": material.answer(subject.completion),
        }

    async def opinion(self, given: Mapping[str, str], seed: int) -> RepeatedVerdict:
        raise NotImplementedError

    def messages(self, given: Mapping[str, str], verdict: str) -> list[dict[str, str]]:
        s = self.setting
        items = "\n".join(f"{n}. {item.ask}" for n, item in enumerate(s.items, 1))
        own = {"criterion": s.criterion, "low": str(s.low), "high": str(s.high), "items": items}
        return s.template.messages(own, given, verdict)

    def golden(self) -> tuple[Golden, ...]:
        """What it must see without asking anybody; what the model says is calibrated, not proven."""
        return (
            Golden("a refused request has no answer", {}, Completion(error="overloaded"), None, {"status": 503}),
            Golden("embeddings have no answer", {}, Completion(), None, {"api": "embeddings"}),
        )


class Pointwise(Judge):
    """A score on a scale, by a criterion: weighted by the probabilities of the scores where the model gives them."""

    __slots__ = ()

    async def opinion(self, given: Mapping[str, str], seed: int) -> RepeatedVerdict:
        s = self.setting
        told = (
            'Answer with one JSON object: {"reason": "…", "score": N}, where N is a whole number '
            f"from {s.low} to {s.high}."
        )
        score_is = {"type": "integer", "minimum": s.low, "maximum": s.high}
        form = verdicts.response_format("verdict", {"reason": {"type": "string"}, "score": score_is})
        question = JudgeQuestion(
            self.messages(given, told), "score", form, lambda v: verdicts.read_number(v, "score", s.low, s.high), seed
        )
        return self._opinion(await s.model.verdict(question, logprobs=s.weighted))

    def _opinion(self, verdict: JudgeVerdict[float]) -> RepeatedVerdict:
        s = self.setting
        weights = weighting.distribution(verdict.tokens, "score", s.low, s.high) if s.weighted else None
        given = weighting.expected(weights) if weights else verdict.value
        return RepeatedVerdict(
            value=(given - s.low) / (s.high - s.low),
            reason=verdicts.read_reason(verdict.raw),
            label=f"{verdict.value:g} of {s.high}",
            spent=verdict.spent,
            distribution=weights,
            detail={"score": given},
        )


class Reference(Pointwise):
    """The same, of how far the answer agrees with a reference."""

    __slots__ = ()

    def lacks(self, subject: Subject) -> Skipped | None:
        return require_answer(subject) or (NO_REFERENCE if not subject.reference else None)

    def material(self, subject: Subject) -> dict[str, str]:
        return {**Judge.material(self, subject), "reference": subject.reference or ""}

    def golden(self) -> tuple[Golden, ...]:
        return (*Judge.golden(self), Golden("no reference", {}, Completion("Paris", finish_reason="stop"), None))


class Rubric(Judge):
    """The weight of the items that are true of the answer, as a share of all. Items of negative weight count when they
    are not true."""

    __slots__ = ()

    async def opinion(self, given: Mapping[str, str], seed: int) -> RepeatedVerdict:
        n = len(self.setting.items)
        told = (
            'Answer with one JSON object: {"items": [{"reason": "…", "met": true or false}, …]}, '
            f"with {n} entries, in the order of the items."
        )
        entry = {
            "type": "object",
            "properties": {"reason": {"type": "string"}, "met": {"type": "boolean"}},
            "required": ["reason", "met"],
            "additionalProperties": False,
        }
        form = verdicts.response_format(
            "verdict", {"items": {"type": "array", "items": entry, "minItems": n, "maxItems": n}}
        )
        question = JudgeQuestion(self.messages(given, told), "items", form, self._met, seed)
        verdict = await self.setting.model.verdict(question)
        items = self.setting.items
        right = sum(abs(i.weight) for i, met in zip(items, verdict.value, strict=True) if met == (i.weight > 0))
        missed = [i.ask for i, met in zip(items, verdict.value, strict=True) if met != (i.weight > 0)]
        return RepeatedVerdict(
            value=right / sum(abs(i.weight) for i in items),
            reason="all items are as wanted" if not missed else "not as wanted: " + "; ".join(missed),
            label=f"{n - len(missed)} of {n}",
            spent=verdict.spent,
            detail={f"item_{at}": float(met) for at, met in enumerate(verdict.value, 1)},
        )

    def _met(self, verdict: dict[str, Any]) -> list[bool]:
        entries = verdict["items"]
        if not isinstance(entries, list) or len(entries) != len(self.setting.items):
            got = len(entries) if isinstance(entries, list) else "none"
            raise verdicts.NoVerdict(f'"items" has {got} entries, expected {len(self.setting.items)}')
        return [verdicts.read_bool(e.get("met") if isinstance(e, dict) else e) for e in entries]


class Groundedness(Judge):
    """The share of the answer's claims that the context supports."""

    __slots__ = ()

    def lacks(self, subject: Subject) -> Skipped | None:
        return require_answer(subject) or (None if self._context(subject).strip() else NO_CONTEXT)

    def material(self, subject: Subject) -> dict[str, str]:
        return {**Judge.material(self, subject), "context": self._context(subject)}

    def _context(self, subject: Subject) -> str:
        return material.context(subject.request, self.setting.context)

    async def opinion(self, given: Mapping[str, str], seed: int) -> RepeatedVerdict:
        told = (
            'Answer with one JSON object: {"claims": [{"claim": "…", "supported": true or false}, …]}; '
            "with an empty list when the answer claims nothing."
        )
        entry = {
            "type": "object",
            "properties": {"claim": {"type": "string"}, "supported": {"type": "boolean"}},
            "required": ["claim", "supported"],
            "additionalProperties": False,
        }
        form = verdicts.response_format(
            "verdict", {"claims": {"type": "array", "items": entry, "maxItems": MOST_CLAIMS}}
        )
        verdict = await self.setting.model.verdict(
            JudgeQuestion(self.messages(given, told), "claims", form, _claims, seed)
        )
        claims = verdict.value
        unfounded = [claim for claim, supported in claims if not supported]
        return RepeatedVerdict(
            # An answer that claims nothing claims nothing that is not in the context.
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
        raise verdicts.NoVerdict('"claims" is no list of objects')
    return [(str(e.get("claim", "")), verdicts.read_bool(e.get("supported"))) for e in entries[:MOST_CLAIMS]]


_KINDS: Mapping[str, type[Judge]] = {
    "pointwise": Pointwise,
    "reference": Reference,
    "rubric": Rubric,
    "groundedness": Groundedness,
}


Side = Literal["a", "b"]
_TOLD = 'Answer with one JSON object: {"reason": "…", "better": "1"}, where better is "1", "2" or "neither".'
_FORM = verdicts.response_format(
    "verdict", {"reason": {"type": "string"}, "better": {"type": "string", "enum": ["1", "2", "neither"]}}
)


@dataclass(frozen=True, slots=True)
class PairwiseJudge:
    """The preference for b over a: 1, 0, or ½ for a tie. Answers that are the same are a tie, and nobody is asked.

    detail: flip: 1 where the order decided. first_slot: 1 where, in the order that the pair drew, the answer shown
    first won; ½ where neither did.
    """

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "llm"
    direction: ClassVar[Direction] = "maximise"
    bounds: ClassVar[Bounds] = (0.0, 1.0)
    heavy: ClassVar[bool] = False

    name: str
    asked: JudgeModel
    template: Template
    criterion: str
    repeats: RepeatPolicy

    @property
    def fingerprint(self) -> str:
        return self.template.digest

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases it asks."""
        return (self.asked.model,)

    async def compare(self, pair: Pair) -> Score | Skipped:
        if skipped := require_answer(pair.a) or require_answer(pair.b):
            return skipped
        texts = {"a": material.answer(pair.a.completion), "b": material.answer(pair.b.completion)}
        if texts["a"].strip() == texts["b"].strip():
            return Score(0.5, "the same", "both answers say the same")
        return await score_repeatedly(lambda seed: self._both_orders(pair, texts, seed), self.repeats)

    async def _both_orders(self, pair: Pair, texts: Mapping[str, str], seed: int) -> RepeatedVerdict:
        second: Side = "b" if pair.first == "a" else "a"
        drawn = await self._winner(pair, texts, pair.first, seed)
        turned = await self._winner(pair, texts, second, seed)
        won = {1: pair.first, 2: second}.get(drawn.value), {1: second, 2: pair.first}.get(turned.value)
        flip = None not in won and won[0] != won[1]
        value = sum({"a": 0.0, "b": 1.0}.get(side or "", 0.5) for side in won) / 2
        return RepeatedVerdict(
            value=value,
            reason=_reason(drawn, turned, pair.first, flip),
            label="tie" if value == 0.5 else "b" if value > 0.5 else "a",
            spent=total_spent([v.spent for v in (drawn, turned) if v.spent is not None]),
            detail={"flip": float(flip), "first_slot": {1: 1.0, 2: 0.0}.get(drawn.value, 0.5)},
        )

    async def _winner(self, pair: Pair, texts: Mapping[str, str], first: Side, seed: int) -> JudgeVerdict[int]:
        """1, 2, or 0 for neither; as they were shown."""
        shown = (texts["a"], texts["b"]) if first == "a" else (texts["b"], texts["a"])
        given = {
            "conversation": material.conversation(pair.a.request),
            "answer_1": shown[0],
            "answer_2": shown[1],
            "reference": pair.a.reference or "",
        }
        messages = self.template.messages({"criterion": self.criterion}, given, _TOLD)
        return await self.asked.verdict(JudgeQuestion(messages, "better", _FORM, _better, seed))

    def golden(self) -> tuple[GoldenPair, ...]:
        paris = Completion("Paris", finish_reason="stop")
        failed = Completion(error="overloaded")
        return (
            GoldenPair("the same answer twice is a tie", {}, paris, paris, 0.5),
            GoldenPair("no answer", {}, failed, failed, None, {"status": 503}),
        )


def _better(verdict: dict[str, Any]) -> int:
    said = str(verdict["better"]).strip().lower()
    places = {"1": 1, "answer 1": 1, "2": 2, "answer 2": 2, "neither": 0, "tie": 0, "both": 0, "equal": 0, "0": 0}
    if said not in places:
        raise verdicts.NoVerdict(f'"better" is {verdict["better"]!r}, expected "1", "2" or "neither"')
    return places[said]


def _reason(drawn: JudgeVerdict[int], turned: JudgeVerdict[int], first: Side, flip: bool) -> str:
    order = f"with {first} first: {verdicts.read_reason(drawn.raw) or 'no reason given'}"
    other = f"the other way round: {verdicts.read_reason(turned.raw) or 'no reason given'}"
    return f"{'The order decided, so it is a tie. ' if flip else ''}{order} — {other}"
