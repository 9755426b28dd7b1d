"""The section `redaction` of gateway.yaml: what is removed from content before it is recorded."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from gateway.config.types import Positive, Section
from gateway.core.extras import install_command

Content = Literal["full", "redacted", "metadata"]
RuleName = Literal["email", "phone", "card", "iban", "key"]
RULES: tuple[RuleName, ...] = get_args(RuleName)
_MAX_PATTERN_BYTES = 8 << 20  # memory of one compiled pattern


class RedactionPattern(Section):
    """A pattern of your own."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    """Name in redacted text, such as `[name]`; not the name of a built-in rule."""
    regex: Annotated[str, Field(min_length=1, max_length=2000)]
    """A regular expression in RE2 syntax, which runs in linear time: no look-around, no back-references."""
    replace: Annotated[str, Field(max_length=200)] | None = None
    """The replacement text. Default: the name in brackets."""

    @model_validator(mode="after")
    def _check_regex(self) -> Self:
        if self.name in RULES:
            raise ValueError(f"name {self.name} is the name of a built-in rule; choose another")
        if compile_pattern(self.regex).search("") is not None:
            raise ValueError(f"regex {self.regex!r} matches the empty text: it would match everywhere")
        return self


def compile_pattern(regex: str) -> Any:
    """Compiles a pattern with google-re2. Raises ValueError if it is not valid, or google-re2 is not installed."""
    try:
        import re2
    except ImportError as error:
        raise ValueError(f"own patterns need google-re2: {install_command('redaction')}") from error
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_PATTERN_BYTES
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"regex {regex!r} is not valid in RE2, which runs in linear time: {text}") from error


class RedactionConfig(Section):
    """Personal data and secrets are replaced by marks such as `[email]` before anything leaves the process."""

    default: Content = "redacted"
    """Recorded part of the content of keys without a `content` of their own."""
    rules: tuple[RuleName, ...] = RULES
    """The built-in rules in use."""
    patterns: tuple[RedactionPattern, ...] = ()
    """Additional patterns."""
    pseudonyms: bool = False
    """Number equal values within one exchange (`[email-1]`), so that a reader can follow them."""
    deadline_s: Positive = 10.0
    """Seconds for one exchange. Beyond it, none of the exchange's content is recorded."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [p.name for p in self.patterns]
        duplicates = sorted({n for n in names if names.count(n) > 1})
        if duplicates:
            raise ValueError(f"patterns: duplicate name {', '.join(duplicates)}")
        return self


def placeholders(redaction: RedactionConfig | None) -> tuple[str, ...]:
    """Texts by which redacted content is known: the marks of rules and patterns, or their beginning where they are
    numbered."""
    if redaction is None:
        return ()
    named = [*redaction.rules, *(p.name for p in redaction.patterns if p.replace is None)]
    own = [p.replace for p in redaction.patterns if p.replace]
    return tuple([f"[{name}]" for name in named] + [f"[{name}-" for name in named] + own)
