"""Prices that ship: a few models of vendors, as a page said on a day. gateway.yaml's `prices` win over every one.

Short on purpose. A vendor changes its prices without telling; whoever counts money gives the prices of the own
contract. Only plain prices stand here: no batches, priority tiers, peak hours, or surcharges for long prompts. Writing
to Anthropic's cache costs more than plain input, which usage as it crosses the gateway does not tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from gateway.core.prices import Price


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """kind: of the upstream, as in vendors.py; its base_url must be the vendor's own. source: where it was read, and
    seen: when."""

    kind: str
    models: tuple[str, ...]
    price: Price
    source: str
    seen: date


_ANTHROPIC = "https://platform.claude.com/docs/en/about-claude/pricing"
_OPENAI = "https://www.morphllm.com/openai-api-pricing"  # "as listed on the official pricing page", June 2026
_OPENAI_OLDER = "https://tokenmath.io/openai-api-pricing-explained"  # "OpenAI model pricing, checked Jun 21, 2026"
_SEEN = date(2026, 11, 25)

LISTED = (
    ListedPrice(
        "anthropic",
        ("claude-opus-5", "claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6", "claude-opus-4-5"),
        Price(5.0, 25.0, cached_input=0.5),
        _ANTHROPIC,
        _SEEN,
    ),
    ListedPrice(
        "anthropic",
        ("claude-sonnet-4-6", "claude-sonnet-4-5"),
        Price(3.0, 15.0, cached_input=0.3),
        "https://platform.claude.com/docs/zh-CN/about-claude/pricing",
        _SEEN,
    ),
    ListedPrice(
        "anthropic",
        ("claude-haiku-4-5",),
        Price(1.0, 5.0, cached_input=0.1),
        "https://platform.claude.com/docs/zh-CN/about-claude/pricing",
        _SEEN,
    ),
    ListedPrice("openai", ("gpt-5.5",), Price(5.0, 30.0, cached_input=0.5), _OPENAI, _SEEN),
    ListedPrice("openai", ("gpt-5.4",), Price(2.5, 15.0, cached_input=0.25), _OPENAI, _SEEN),
    ListedPrice("openai", ("gpt-5.4-mini",), Price(0.75, 4.5, cached_input=0.075), _OPENAI, _SEEN),
    ListedPrice("openai", ("gpt-5.4-nano",), Price(0.2, 1.25, cached_input=0.02), _OPENAI, _SEEN),
    ListedPrice("openai", ("gpt-4.1",), Price(2.0, 8.0), _OPENAI_OLDER, _SEEN),
    ListedPrice("openai", ("gpt-4.1-mini",), Price(0.4, 1.6), _OPENAI_OLDER, _SEEN),
    ListedPrice("openai", ("text-embedding-3-small",), Price(0.02, 0.0), _OPENAI_OLDER, _SEEN),
)


def listed(kind: str) -> Mapping[str, Price]:
    """The prices of one kind of upstream, by model."""
    return MappingProxyType({model: row.price for row in LISTED if row.kind == kind for model in row.models})
