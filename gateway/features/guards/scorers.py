"""Builds the scorers that judge for guards, and turns their values into scores of guards: 1 is worst."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from gateway.config.guards import GuardConfig, ToolRules
from gateway.config.scorers import DECISION, ScorerConfig
from gateway.core.completion import ToolCall
from gateway.core.errors import ConfigError
from gateway.core.score import unit_value
from gateway.scoring.asker import Asker, ExternalServices
from gateway.scoring.json_schema import SchemaCache, UnboundedSchema
from gateway.scoring.options import InvalidOptions
from gateway.scoring.registry import RegisteredScorer, build_all
from gateway.scoring.run import run_scorer
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Subject

_MOST_CHARS = 20_000  # of a text that a vector is made of
_LEAST_LETTERS = 20  # fewer do not identify a language


class NoScore(Exception):
    """A scorer gave no value. late: its deadline passed; invalid: the value is not a finite number within bounds."""

    def __init__(self, text: str, *, late: bool = False, invalid: bool = False) -> None:
        super().__init__(text)
        self.late, self.invalid = late, invalid


class GuardScorer(Protocol):
    async def score(self, subject: Subject) -> float:
        """1 where the subject is worst, 0 where it is best. Raises NoScore."""
        ...


@dataclass(frozen=True, slots=True)
class ConfiguredGuardScorer:
    """A scorer of the section `scorers`. A call that it does not apply to scores 0."""

    name: str
    registered: RegisteredScorer
    threads: ScoringThreads

    async def score(self, subject: Subject) -> float:
        async def call() -> Any:
            found = self.registered.scorer.score(subject)
            return await found if inspect.isawaitable(found) else found

        result = await run_scorer(self.name, self.registered, call, self.threads)
        if result.status == "not_applicable":
            return 0.0
        if result.score is None:
            text = result.explanation or result.status
            raise NoScore(text, late=result.status == "timeout", invalid=text.startswith("value "))
        good = unit_value(result.score.value, self.registered.scorer)
        if good is None:
            raise NoScore("it has no bounds, so it has no worst value", invalid=True)
        return 1.0 - good


class ToolGuard:
    """1 if the answer calls a tool that it may not, or with arguments that its schema refuses."""

    def __init__(self, rules: ToolRules) -> None:
        """Raises UnboundedSchema for a schema that cannot be checked in bounded time."""
        self._rules = rules
        cache = SchemaCache()
        self._schemas = {name: cache.compile(schema) for name, schema in rules.arguments.items()}

    async def score(self, subject: Subject) -> float:
        return float(any(self._refused(call) for call in subject.completion.tool_calls))

    def _refused(self, call: ToolCall) -> bool:
        rules = self._rules
        if call.name in rules.forbid or (rules.allow is not None and call.name not in rules.allow):
            return True
        schema = self._schemas.get(call.name)
        if schema is None:
            return False
        try:
            arguments = orjson.loads(call.arguments or "{}")
            return schema.mistake(arguments, len(call.arguments)) is not None
        except orjson.JSONDecodeError:
            return True  # what is not JSON satisfies no schema
        except UnboundedSchema as unbounded:
            raise NoScore(f"arguments of {call.name} cannot be compared: {unbounded}") from unbounded


class LanguageGuard:
    """1 if the text is recognisably in a language that is not allowed."""

    def __init__(self, languages: Sequence[str], identifier: Any) -> None:
        self._languages = frozenset(languages)
        self._identifier = identifier

    async def score(self, subject: Subject) -> float:
        text = subject.completion.text[:4_000]
        if sum(map(str.isalpha, text)) < _LEAST_LETTERS:
            return 0.0
        found, confidence = self._identifier.classify(text)
        return float(confidence) if found not in self._languages else 0.0


class VectorMaker(Protocol):
    async def of(self, texts: Sequence[str]) -> tuple[list[Sequence[float]], Any]: ...


class TopicGuard:
    """The largest cosine between the text and an example; at most 1, and 0 for an unrelated text."""

    def __init__(self, vectors: VectorMaker, examples: Sequence[str]) -> None:
        self._vectors = vectors
        self._examples = [example[:_MOST_CHARS] for example in examples]
        self._known: list[Sequence[float]] = []

    async def score(self, subject: Subject) -> float:
        from gateway.scorers.embedding import cosine

        text = subject.completion.text[:_MOST_CHARS]
        if not text.strip():
            return 0.0
        if not self._known:
            self._known, _ = await self._vectors.of(self._examples)
        (vector,), _ = await self._vectors.of([text])
        return max(0.0, max(cosine(vector, known) for known in self._known))


@dataclass(frozen=True, slots=True)
class BuiltGuards:
    scorers: Mapping[str, GuardScorer]
    """The scorers, by the guards' names."""
    mistakes: tuple[str, ...]
    sharing: frozenset[str] = frozenset()
    """Guards that ask questions of a decision model: those of one section share one call for each subject."""


def build_guards(
    guards: Mapping[str, GuardConfig],
    sections: Mapping[str, ScorerConfig],
    outside: ExternalServices,
    threads: ScoringThreads,
) -> BuiltGuards:
    """Every guard that the gateway's own process does not evaluate. sections: those of `scorers` that they name."""
    built: dict[str, GuardScorer] = {}
    mistakes: list[str] = []
    named = needed_sections(guards.values(), sections)
    asked = {name: section for name, section in named.items() if section.use == DECISION}
    together = _Together(asked, outside)
    for name, guard in guards.items():
        if guard.in_process:
            continue
        try:
            built[name] = _built(name, guard, sections, outside, threads, together)
        except ConfigError as error:
            mistakes += error.mistakes
        except (InvalidOptions, UnboundedSchema, ImportError, ValueError) as error:
            mistakes.append(f"guards.{name}: {_why(error)}")
    return BuiltGuards(built, tuple(mistakes), frozenset(n for n in built if guards[n].section in asked))


class _Together:
    """The questions of decision models that guards name, built at once, so that those of a section share their calls.

    Built when the first guard needs one: a mistake is that guard's, as of any other scorer.
    """

    def __init__(self, sections: Mapping[str, ScorerConfig], outside: ExternalServices) -> None:
        self._sections, self._outside = sections, outside
        self._built: Mapping[str, RegisteredScorer] | None = None

    def single(self, section: str) -> Mapping[str, RegisteredScorer] | None:
        """The scorers of single answers among them; None if the section is not of them. Raises ConfigError."""
        if section not in self._sections:
            return None
        if self._built is None:
            self._built = build_all(self._sections, self._outside).single
        return self._built


def _why(error: Exception) -> str:
    if isinstance(error, UnboundedSchema):
        return f"tools.arguments: needs {error}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"needs {package}, which is not installed: pip install {package}"
    return str(error).lstrip(": .")


def _built(
    name: str,
    guard: GuardConfig,
    sections: Mapping[str, ScorerConfig],
    outside: ExternalServices,
    threads: ScoringThreads,
    together: _Together,
) -> GuardScorer:
    if guard.tools is not None:
        return ToolGuard(guard.tools)
    if guard.languages:
        from gateway.scorers.language import identifier

        return LanguageGuard(guard.languages, identifier())
    if guard.topics is not None:
        from gateway.scorers.embedding import vector_source

        asker = Asker(outside.client, outside.prices, None, guard.deadline_ms / 1000, f"guard {name}")
        return TopicGuard(vector_source(asker, guard.topics.model), guard.topics.examples)
    section = guard.section or ""
    single = together.single(section) or build_all({section: sections[section]}, outside).single
    if section not in single:
        raise ValueError(f"scorer: {section} does not judge single answers, so it cannot be a guard")
    low, high = single[section].scorer.bounds
    if low is None or high is None:
        raise ValueError(f"scorer: {section} has no bounds, so it has no worst value; a guard needs both")
    return ConfiguredGuardScorer(section, single[section], threads)


def needed_sections(guards: Iterable[GuardConfig], sections: Mapping[str, ScorerConfig]) -> dict[str, ScorerConfig]:
    """The sections of `scorers` that guards name."""
    named = (guard.section for guard in guards)
    return {name: sections[name] for name in named if name is not None and name in sections}
