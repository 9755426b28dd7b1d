"""The verbs of experiments reach the stream server of their config, or say that it is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.on_stream import on_stream, store_url
from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.core.errors import CannotRun


def a_config(stream: str) -> Config:
    return parse(
        "open: true\nupstreams: {a: {kind: fake}}\nmodels: {chat: {targets: [{upstream: a, model: m}]}}\n"
        f"stream: {{url: '{stream}'}}\n"
    )


def test_work_is_done_on_the_stream_server(stream_url: str, tmp_path: Path) -> None:
    assert on_stream(a_config(stream_url), tmp_path, lambda corridor: corridor.state.recall("nothing")) is None


def test_a_server_that_is_away_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="Is a gateway of this config running"):
        on_stream(a_config(f"unix://{tmp_path}/nothing"), tmp_path, lambda corridor: corridor.state.plans())


def test_the_store_is_the_configs_or_in_the_data_directory(tmp_path: Path) -> None:
    assert store_url(a_config("redis://h"), tmp_path).endswith(f"{tmp_path}/gateway.db")
