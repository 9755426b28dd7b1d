"""The sections `evals` and `scorers`, and the key that `gateway up` makes for its consumer."""

from __future__ import annotations

import hashlib
import stat

import pytest
from pydantic import ValidationError

from gateway.config.loading import parse
from gateway.config.scorers import FILE, EvalsConfig, ScorerConfig, add_evals, evals_mistakes, evals_of, keep_told
from gateway.core.errors import ConfigError

TEXT = """
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
keys: [{name: web, sha256: "DIGEST", SAMPLE}]
evals: {base_url: "http://127.0.0.1:8000/v1", api_key: sk-evals}
"""
DIGEST = hashlib.sha256(b"sk-evals").hexdigest()


def test_what_a_section_says_beside_the_common_words_are_the_scorers_options():
    section = ScorerConfig.model_validate(
        {"use": "judge", "share": 0.05, "budget_usd": 5, "model": "referee", "scale": [1, 5]}
    )
    assert (section.share, section.budget_usd) == (0.05, 5.0)
    assert section.options == {"model": "referee", "scale": [1, 5]}


@pytest.mark.parametrize(
    "wrong", [{"share": 2}, {"deadline_s": 0}, {"concurrency": 0}, {"budget_usd": -1}, {"memory_mb": 1}]
)
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        ScorerConfig.model_validate(wrong)


def test_a_key_whose_traffic_is_sampled_may_not_be_the_judges():
    """A judge's calls would be judged, and those calls judged again."""
    sampled = TEXT.replace("DIGEST", DIGEST).replace(", SAMPLE", "")
    with pytest.raises(ConfigError) as caught:
        parse(sampled)
    assert any('evals.api_key: the traffic of key "web" is sampled' in m for m in caught.value.mistakes)
    assert parse(sampled.replace(f'"{DIGEST}"', f'"{DIGEST}", sample: never')).evals.api_key == "sk-evals"
    assert evals_mistakes({"evals": {"api_key": "other"}, "keys": [{"sha256": DIGEST}]}) == []


def test_the_consumers_key_is_kept_for_its_owner_alone_and_is_new_each_time(tmp_path):
    one, other = keep_told(tmp_path, "http://127.0.0.1:8000/v1"), keep_told(tmp_path, "http://127.0.0.1:8000/v1")
    assert one != other
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    found = evals_of(EvalsConfig(), tmp_path)
    assert (found.base_url, found.api_key) == tuple(other.split(" "))
    own = EvalsConfig(base_url="http://10.0.0.1/v1")
    assert evals_of(own, tmp_path) is own
    assert evals_of(EvalsConfig(), tmp_path / "nowhere") == EvalsConfig()


def test_what_up_tells_becomes_a_section_and_a_key_that_is_never_sampled():
    raw = {"keys": [{"name": "evals", "sha256": "0" * 64}]}
    add_evals(raw, "http://127.0.0.1:8000/v1 sk-evals-x")
    assert raw["evals"] == {"base_url": "http://127.0.0.1:8000/v1", "api_key": "sk-evals-x"}
    added = raw["keys"][1]
    assert (added["name"], added["sample"]) == ("evals-0", "never")
    assert added["sha256"] == hashlib.sha256(b"sk-evals-x").hexdigest()


@pytest.mark.parametrize("raw", [{"evals": {"base_url": "http://x/v1"}}, {}])
def test_a_file_that_names_a_gateway_itself_stays_as_it_is(raw):
    before = dict(raw)
    add_evals(raw, "http://127.0.0.1:8000/v1 sk" if raw else "")
    assert raw == before
