"""The labels of metrics are names of the config, or "other"."""

from __future__ import annotations

import yaml

from gateway.config.cautions import cautions
from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.config.metric_labels import HISTOGRAM_ALIASES, OTHER, SCORED_ALIASES, MetricLabels


def config(models: int = 1, **more: object) -> Config:
    aliases = {f"a{n}": {"targets": [{"upstream": "l", "model": "m", "set": {"top_p": 0.5}}]} for n in range(models)}
    aliases["any/*"] = {"targets": [{"upstream": "a/b", "model": "*"}]}
    upstreams = {name: {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"} for name in ("l", "a/b")}
    return parse(
        yaml.safe_dump(
            {"open": True, "redaction": {}, "upstreams": upstreams, "models": aliases, **more}, sort_keys=False
        )
    )


def test_a_targets_model_is_the_one_that_the_config_writes() -> None:
    labels = MetricLabels.of(config())
    assert labels.target("a0", "l/m[top_p=0.5]") == ("l", "m[top_p=0.5]")
    assert labels.target("any/*", "a/b/x/large") == ("a/b", "*"), "the client chose this name"
    assert labels.target("a0", "a/b/x/large") is None
    assert (labels.model("a0", "l/gone"), labels.alias("gone"), labels.alias("a0")) == (OTHER, OTHER, "a0")


def test_the_first_aliases_have_histograms_and_scores() -> None:
    labels = MetricLabels.of(config(300))
    assert labels.histograms(f"a{HISTOGRAM_ALIASES - 1}", "l") == ("l", f"a{HISTOGRAM_ALIASES - 1}")
    assert labels.histograms(f"a{HISTOGRAM_ALIASES}", "l") == ("l", OTHER)
    assert labels.scored_aliases == {f"a{n}" for n in range(SCORED_ALIASES)}


def test_the_check_names_aliases_without_histograms() -> None:
    (caution,) = (text for text in cautions(config(22)) if "latencies" in text)
    assert 'the latencies of a20, a21, any/* share alias="other"' in caution
    assert not any("latencies" in text for text in cautions(config(19)))


def test_aliases_with_objectives_have_scores_first() -> None:
    models = {f"a{n}": {"targets": [{"upstream": "l", "model": "m"}]} for n in range(SCORED_ALIASES + 1)}
    last = f"a{SCORED_ALIASES}"
    models[last]["score_objectives"] = {"valid_json": 0.9}  # type: ignore[assignment]
    upstreams = {"l": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}}
    sections = {"open": True, "upstreams": upstreams, "models": models, "scorers": {"valid_json": {}}}
    labels = MetricLabels.of(Config.model_validate(sections))
    assert last in labels.scored_aliases
    assert f"a{SCORED_ALIASES - 1}" not in labels.scored_aliases
