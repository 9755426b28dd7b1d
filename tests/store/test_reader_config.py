"""Readers need the store and the scorers of gateway.yaml, and none of its keys."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigError
from gateway.store.reader_config import where

TEXT = """
upstreams: {openai: {kind: openai, api_key: "${SURELY_NOT_SET}"}}
models: {chat: {targets: [{upstream: openai, model: x}]}}
scorers: {length: {}, refusal: {share: 0.5}}
"""


def test_without_a_file_the_store_is_the_data_directorys(tmp_path):
    assert where(None, tmp_path).store == f"sqlite:///{tmp_path.resolve()}/gateway.db"


def test_a_key_that_is_not_set_stops_no_reader(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(TEXT)
    found = where(path, tmp_path)
    assert found.store.endswith("gateway.db")
    assert (list(found.scorers), found.scorers["refusal"].share) == (["length", "refusal"], 0.5)


def test_the_store_that_the_file_names_is_read(tmp_path, monkeypatch):
    path = tmp_path / "gateway.yaml"
    path.write_text(TEXT + 'store: {url: "sqlite:///${WHERE}/x.db"}\n')
    with pytest.raises(ConfigError, match=r"store\.url: \$WHERE is not set"):
        where(path, tmp_path)
    monkeypatch.setenv("WHERE", "/data")
    assert where(path, tmp_path).store == "sqlite:////data/x.db"


def test_mistakes_are_left_to_check(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text("scorers: {length: {share: many}}")
    with pytest.raises(ConfigError, match="gateway check"):
        where(path, tmp_path)
