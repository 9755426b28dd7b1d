"""A question of decisions in gateway.yaml, for scorers with `use: decided` and the cascades that rest on them."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, StrictStr, model_validator

from gateway.config.types import NonEmpty, Section
from gateway.core.decided import AskedQuestion
from gateway.core.decision import FEWEST_OPTIONS, MOST_LEVELS, MOST_OPTIONS, Option

DECIDED = "decided"
"""The scorer whose value is the probability that a decision states."""
Value = StrictBool | Annotated[StrictStr, Field(min_length=1)]


class DecidedQuestion(Section):
    """A question that applications ask, word for word: exactly one of predicate, choice and score."""

    predicate: NonEmpty | None = None
    choice: NonEmpty | None = None
    options: list[Value] | dict[Value, str | None] = Field([])
    """Options of a choice, in their order; as a map, with their descriptions."""
    score: NonEmpty | None = None
    levels: list[NonEmpty] | dict[NonEmpty, str | None] = Field([])
    """Levels of a score, the lowest first; as a map, with their descriptions."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = [kind for kind in ("predicate", "choice", "score") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError("a question has exactly one of predicate, choice and score")
        for kind, member, most in (("choice", "options", MOST_OPTIONS), ("score", "levels", MOST_LEVELS)):
            values = getattr(self, member)
            if bool(values) != (kind == kinds[0]):
                raise ValueError(f"`{member}` belongs to a question with `{kind}`, which needs it")
            if values and not FEWEST_OPTIONS <= len(values) <= most:
                raise ValueError(f"`{member}` has {len(values)} entries, expected {FEWEST_OPTIONS} to {most}")
        if len({(type(value), value) for value in self.options}) < len(self.options):
            raise ValueError("`options` has a value twice")
        return self

    @property
    def asked(self) -> AskedQuestion:
        """Identity of the question in requests."""
        if self.predicate is not None:
            return AskedQuestion("predicate", self.predicate)
        if self.choice is not None:
            return AskedQuestion("choice", self.choice, _options(self.options))
        return AskedQuestion("score", self.score or "", _options(self.levels))


def _options(values: Any) -> tuple[Option, ...]:
    described = values.items() if isinstance(values, dict) else ((value, None) for value in values)
    return tuple(Option(value, text or None) for value, text in described)
