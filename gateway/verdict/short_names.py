"""Targets by their shortest distinct name, as sentences call them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST = 28  # characters of a name in a sentence
_CHANGED = {"system": "another system message", "headers": "other headers"}
"""Settings whose value is a digest, or too long for a sentence."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """A target's text in its parts: "upstream/model[a=1,b=2]", or "model,a=1" in a replay."""

    upstream: str
    model: str
    settings: tuple[str, ...]

    @property
    def base(self) -> str:
        """The model's name without the folders before it."""
        return self.model.rstrip("/").rpartition("/")[2] or self.model


def short_names(targets: Sequence[str]) -> tuple[str, ...]:
    """The shortest name of each target that distinguishes it from the others: the model's, else the settings, else the
    upstream.

    "openai/gpt-x" and "local/llama-y" are gpt-x and llama-y; "a/m" and "a/m[temperature=1.5]": m and temperature 1.5.
    """
    parts = [_parts_of(" ".join(text.split())) for text in targets]
    found = [_name(each, [other for other in parts if other is not each]) for each in parts]
    whole = [
        name if found.count(name) == 1 else " ".join(text.split()) for name, text in zip(found, targets, strict=True)
    ]
    return tuple(map(shortened, whole))


def shortened(text: str, most: int = _LONGEST) -> str:
    """The text in one line, with an ellipsis where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _parts_of(text: str) -> _Parts:
    """Reads the texts that Target and replays write; any other text is a model's name."""
    head, bracket, rest = text.partition("[")
    if bracket and rest.endswith("]"):
        upstream, slash, model = head.partition("/")
        return _Parts(upstream if slash else "", model if slash else head, _settings(rest[:-1]))
    head, comma, rest = text.partition(",")
    if comma and "=" in rest:
        return _Parts("", head, _settings(rest))
    upstream, slash, model = text.partition("/")
    return _Parts(upstream if slash else "", model if slash else text, ())


def _settings(text: str) -> tuple[str, ...]:
    """Settings in a reader's words. A value with a comma, such as a system message, takes the rest of the text."""
    found: list[str] = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            continue
        said = _CHANGED.get(name.strip(), f"{name.strip()} {value.strip()}")
        found += [said] if said not in found else []
    return tuple(found)


def _name(of: _Parts, others: Sequence[_Parts]) -> str:
    alike = [other for other in others if other.base == of.base]
    if not alike:
        return of.base
    own = [each for each in of.settings if all(each not in other.settings for other in alike)]
    if own:
        return ", ".join(own)
    if all(other.settings != of.settings for other in alike):
        return of.base
    if of.upstream and all(other.upstream != of.upstream for other in alike):
        return of.upstream
    return of.base
