"""Sequential objects to and from JSON-able dicts. JSON round-trips floats, so a restored object is bit-identical."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Self, TypeVar

State = dict[str, Any]  # JSON: str, int, float, list and dict only
T = TypeVar("T")


class Stored:
    """A sequential dataclass that can be saved as JSON between two values."""

    __slots__ = ()

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        return dump(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Raises ValueError if a field is missing, unknown or outside its domain."""
        return load(cls, state)


def dump(sequence: Any) -> State:
    """The init fields of a dataclass instance. Lists are copied, so a later `add` does not change the dict."""
    kind: Any = type(sequence)  # mypy does not take a type[Any] as Hashable
    values = [(name, getattr(sequence, name)) for name in _names(kind)]
    return {name: list(value) if isinstance(value, list) else value for name, value in values}


def load(kind: type[T], state: Mapping[str, Any]) -> T:
    """kind(**state), with lists copied. Raises ValueError with the names of missing and unknown fields."""
    expected: Any = kind
    if wrong := set(_names(expected)).symmetric_difference(state):
        raise ValueError(f"{kind.__name__} state: {', '.join(sorted(wrong))} missing or unknown")
    return kind(**{name: list(value) if isinstance(value, list) else value for name, value in state.items()})


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """The init fields of a dataclass: dataclasses.fields takes longer than everything else that a state needs."""
    return tuple(field.name for field in fields(kind) if field.init)
