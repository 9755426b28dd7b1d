"""The section `prices`, its mistakes, and which price is in force."""

from __future__ import annotations

import pytest

from gateway.config.loading import Config, parse
from gateway.config.prices import prices_of
from gateway.core.errors import ConfigError
from gateway.core.exchange import Target
from gateway.core.prices import Price

PLAIN = """
open: true
upstreams:
  openai: {kind: openai, api_key: k}
  beside: {kind: openai, api_key: k, base_url: "http://proxy.internal/v1"}
  local: {kind: vllm}
models: {m: {targets: [{upstream: local, model: small}]}}
"""


def config(section: str = "") -> Config:
    return parse(PLAIN + section)


def test_the_file_wins_over_what_ships() -> None:
    given = "prices: {as_of: 2026-11-01, models: {gpt-5.4: {input: 1, output: 2, cached_input: 0.5, reasoning: 3}}}"
    assert prices_of(config(given)).of(Target("openai", "gpt-5.4")) == Price(1.0, 2.0, 0.5, 3.0)
    shipped = prices_of(config()).of(Target("openai", "gpt-5.4"))
    assert shipped is not None
    assert shipped != Price(1.0, 2.0, 0.5, 3.0)


def test_what_ships_is_for_the_vendor_at_its_own_address() -> None:
    prices = prices_of(config())
    assert prices.of(Target("openai", "gpt-5.4")) is not None
    assert prices.of(Target("beside", "gpt-5.4")) is None
    assert prices.of(Target("local", "gpt-5.4")) is None


def test_a_local_engine_has_the_price_that_its_owner_gives() -> None:
    given = "prices: {as_of: 2026-11-01, models: {local/small: {input: 0, output: 0}}}"
    assert prices_of(config(given)).of(Target("local", "small")) == Price(0.0, 0.0)
    assert prices_of(config()).of(Target("local", "small")) is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{models: {}}", "prices.as_of: missing"),
        ("{as_of: soon}", "prices.as_of: "),
        ("{as_of: 2026-11-01, models: {a: {input: 1}}}", "prices.models.a.output: missing"),
        ("{as_of: 2026-11-01, models: {a: {input: -1, output: 1}}}", "prices.models.a.input: "),
        ("{as_of: 2026-11-01, models: {a: {input: .nan, output: 1}}}", "prices.models.a.input: "),
        ("{as_of: 2026-11-01, models: {a: {input: '1', output: 1}}}", "prices.models.a.input: expected a number"),
        ("{as_of: 2026-11-01, models: {a: {input: 1, output: 2.5e-6}}}", "looks like a price of one token"),
        ("{as_of: 2026-11-01, models: {a: {input: 1, ouput: 1}}}", 'did you mean "output"?'),
    ],
)
def test_mistakes_are_named(section: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(f"prices: {section}")
    assert any(said in mistake for mistake in error.value.mistakes)
