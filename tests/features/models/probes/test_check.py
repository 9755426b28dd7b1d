"""`gateway check` on the section `watch`: the price before anything is asked, and what cannot be asked."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.loading import parse
from gateway.features.models.probes.check import estimate
from gateway.features.models.probes.targets import probed_targets
from gateway.features.models.probes.work import probes_of

CONFIG = """
upstreams: {east: {kind: openai, api_key: k}, own: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models:
  chat: {targets: [{upstream: east, model: gpt-5-mini}, {upstream: own, model: m}]}
  same: {targets: [{upstream: east, model: gpt-5-mini}]}
  "any-*": {targets: [{upstream: east, model: "*"}]}
"""
EVALS = 'evals: {base_url: "http://127.0.0.1:2/v1", api_key: sk-evals}\n'
DIGEST = sha256(b"sk-evals").hexdigest()


def key(more: str) -> str:
    return f"keys: [{{name: evals, sha256: {DIGEST}, sample: never{more}}}]\n"


@pytest.fixture
def check(tmp_path: Path) -> Any:
    """Runs `gateway check` on a section `watch` and a key."""

    def run(watch: str, more: str = ", allow: [target]", config: str = CONFIG) -> Any:
        path = tmp_path / "gateway.yaml"
        path.write_text(f"watch: {watch}\n{EVALS}{key(more)}{config}")
        return CliRunner().invoke(app, ["check", str(path)])

    return run


def test_the_price_is_named_before_anything_is_asked(check: Any) -> None:
    """An engine of the user's own costs nothing; a target of two names is asked once, a pattern never."""
    done = check("{probes: packaged}")
    assert done.exit_code == 0, done.output
    assert "probes ask 2 targets every 24h, 64 calls each: at most $0.5" in done.output.replace("\xa0", " "), (
        done.output
    )
    found = probes_of(parse(f"open: true\nwatch: {{probes: packaged}}\n{CONFIG}"))
    assert found is not None
    assert [(of.alias, str(of.target)) for of in found.targets] == [("chat", "east/gpt-5-mini"), ("chat", "own/m")]
    assert estimate(found).usd_a_month < 2


def test_a_price_above_the_budget_says_that_rounds_stop(check: Any) -> None:
    done = check("{probes: packaged, every: 1h, usd_per_month: 1}")
    assert done.exit_code == 0
    assert "rounds stop there" in done.output


@pytest.mark.parametrize(
    ("watch", "key", "says"),
    [
        ("{probes: packaged}", "", "may not choose a target"),
        ("{probes: packaged}", ", allow: [target], models: [same]", "may not use chat; add it"),
        ("{probes: packaged, models: [chta]}", ", allow: [target]", 'watch.models: "chta" is not a model'),
        ("{probes: none.jsonl}", ", allow: [target]", "none.jsonl: cannot be read"),
        ("{probes: packaged, every: 5m}", "", "expected 1h to 31d"),
        ("{probes: packaged, every: daily}", "", "is not a time span"),
        ("{probes: packaged, repeats: 1}", "", "watch.repeats"),
    ],
)
def test_a_mistake_is_refused(check: Any, watch: str, key: str, says: str) -> None:
    done = check(watch, key)
    assert done.exit_code == 1, done.output
    assert says in done.output


def test_a_target_without_a_price_is_refused(check: Any) -> None:
    done = check("{probes: packaged}", config=CONFIG.replace("gpt-5-mini", "unheard-of"))
    assert done.exit_code == 1
    assert "east/unheard-of has no price, so usd_per_month cannot be kept" in done.output


def test_mistakes_of_a_file_name_their_lines(check: Any, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"messages": []}\n{"examples": "How are you?"}\nnot JSON\n')
    done = check("{probes: own.jsonl}")
    assert done.exit_code == 1
    assert "own.jsonl: line 1" in done.output
    assert "own.jsonl: line 3" in done.output


def test_a_section_without_probes_asks_nothing(check: Any) -> None:
    done = check("{every: 12h}")
    assert done.exit_code == 0
    assert "nothing is asked" in done.output


def test_a_changed_setting_is_another_definition() -> None:
    plain, other = (
        probed_targets(parse(f"open: true\n{CONFIG.replace('gpt-5-mini}', more)}"))[0]
        for more in ("gpt-5-mini}", "gpt-5-mini, set: {top_p: 0.5}}")
    )
    assert plain.definition != other.definition
