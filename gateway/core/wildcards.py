"""Names of models that end in a star, such as `anthropic/*`: which of them a name matches, and with what. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

STAR = "*"
_NAME = re.compile(r"[\x21-\x29\x2b-\x7e]{1,300}")


def is_pattern(alias: str) -> bool:
    """Whether an alias of the config stands for all names that begin like it."""
    return alias.endswith(STAR)


def pattern_of(name: str, aliases: Iterable[str]) -> str | None:
    """The longest pattern that the name matches; None if there is none.

    A name with a star matches none: it is a pattern itself, not a model. Nor does a text that could not be a model's
    name in the config, which has at most 300 characters of ASCII without blanks.
    """
    if _NAME.fullmatch(name) is None:
        return None
    found = [alias for alias in aliases if is_pattern(alias) and name.startswith(alias[:-1]) and name != alias[:-1]]
    return max(found, key=len, default=None)


def is_unknown(alias: str, aliases: Iterable[str]) -> bool:
    """Whether no request for this name is served."""
    aliases = list(aliases)
    return alias not in aliases and pattern_of(alias, aliases) is None


def filled(model: str, pattern: str, name: str) -> str:
    """The upstream's model for a name that matches the pattern: its star is what the name has after the pattern's
    beginning. A model without a star is the same for every name."""
    return model.replace(STAR, name[len(pattern) - 1 :])


def names_for(pattern: str, model: str, known: Iterable[str]) -> list[str]:
    """The names that lead to these models of the upstream. [] for a model without a star."""
    before, star, after = model.partition(STAR)
    if not star:
        return []
    ends = (m[len(before) : len(m) - len(after)] for m in known if m.startswith(before) and m.endswith(after))
    return [pattern[:-1] + end for end in ends if end]
