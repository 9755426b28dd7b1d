"""Lists next to gateway.yaml: their models win, and others are as in the lists that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.model_lists import ModelLists, list_path, read_model_lists
from gateway.core import prices, retirements
from gateway.core.errors import ConfigError


def test_without_files_the_lists_that_ship_hold(tmp_path: Path) -> None:
    found = read_model_lists(tmp_path / "gateway.yaml")
    assert found.prices_of("openai") == prices.listed("openai") == ModelLists().prices_of("openai")
    assert found.retirements_of("openai") == retirements.listed("openai")
    assert prices.shipped_prices().prices["openai"] == prices.listed("openai")
    assert retirements.shipped_retirements().retirements["openai"] == retirements.listed("openai")


def test_a_model_of_a_file_wins(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    list_path(config, "prices").write_text('{"date": "2026-12-01", "prices": {"openai": {"gpt-5": [1, 2, null]}}}')
    found = read_model_lists(config).prices_of("openai")
    assert found == {**prices.listed("openai"), "gpt-5": prices.Price(1, 2)}


@pytest.mark.parametrize("text", ["[]", '{"date": "2026-12-01"}', "\x00"])
def test_a_file_in_another_form_is_a_mistake(tmp_path: Path, text: str) -> None:
    config = tmp_path / "gateway.yaml"
    list_path(config, "retirements").write_text(text)
    with pytest.raises(ConfigError, match=r"gateway.retirements.json: .* repair it with `gateway models update`"):
        read_model_lists(config)
