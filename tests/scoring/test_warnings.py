"""Checks of the scorers against the rest of the config."""

from __future__ import annotations

import pytest

from gateway.config.loading import parse
from gateway.scoring.registry import build_all
from gateway.scoring.warnings import config_mistakes, config_warnings, family, shared_family

CONFIG = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}, far: {kind: openai, api_key: k}}
models:
  chat: {targets: [{upstream: far, model: gpt-5.5}], fallback: [{upstream: local, model: Qwen/Qwen3-8B}]}
  referee: {targets: [{upstream: {UP}, model: {MODEL}}]}
prices: {as_of: 2026-11-01, models: {gpt-5.5: {input: 5, output: 30}}}
scorers: {helpful: {use: judge, model: {ALIAS}, {MORE}}}
"""


@pytest.fixture
def checked():
    """The mistakes and warnings of a config with these words in it."""

    def read(up="far", model="o3", alias="referee", more="share: 0.1"):
        text = CONFIG.replace("{UP}", up).replace("{MODEL}", model).replace("{ALIAS}", alias).replace("{MORE}", more)
        config = parse(text)
        built = build_all(config.scorers)
        return config_mistakes(config, built), config_warnings(config, built)

    return read


def test_a_judge_of_another_family_needs_no_warning(checked):
    assert checked("local", "meta-llama/Llama-3.3-70B-Instruct") == ([], [])


def test_a_judge_of_the_family_it_judges_is_warned_of(checked):
    wrong, (caution,) = checked()
    assert wrong == []
    assert caution == (
        "scorers.helpful: its judge far/o3 belongs to the same model family (OpenAI) as far/gpt-5.5, which it scores; "
        "models prefer answers of their own family: use another judge, or calibrate it"
    )
    assert "(Qwen) as local/Qwen/Qwen3-8B" in checked("local", "qwen2.5-72b")[1][0]


def test_an_unknown_alias_is_a_mistake(checked):
    assert checked(alias="refere")[0] == ['scorers.helpful: no model "refere"; did you mean "referee"?']
    assert checked(alias="xyz")[0] == ['scorers.helpful: no model "xyz"; known: chat, referee']


def test_a_judge_without_a_gateway_is_a_mistake():
    config = parse(CONFIG.replace("{UP}", "far").replace("{MODEL}", "o3").replace("{ALIAS}", "referee").replace(
        "{MORE}", "share: 0.1"))  # fmt: skip
    (line,) = config_mistakes(config, build_all(config.scorers), gateway_known=False)
    assert "set `evals: {base_url: …, api_key: …}`" in line


def test_a_budget_in_usd_without_a_price_is_warned_of(checked):
    _, found = checked("local", "llama-3", more="budget_usd: 5")
    assert [c.partition(",")[0] for c in found] == ["scorers.helpful.budget_usd: local/llama-3 has no price"]
    assert checked("local", "llama-3", more="budget_tokens: 5")[1] == []


def test_an_embedding_needs_no_family_warning():
    text = CONFIG.replace("{use: judge, model: {ALIAS}, {MORE}}", "{use: embedding, model: referee}")
    config = parse(text.replace("{UP}", "far").replace("{MODEL}", "text-embedding-3-small"))
    assert config_warnings(config, build_all(config.scorers)) == []


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("{use: length}", "predictor.target: the values of target have no bounds"),
        ("{use: judge, model: referee, kind: pairwise}", "predictor.target: target compares the two answers of a pair"),
        ("{use: run_loops}", "predictor.target: target scores whole runs"),
        ("{use: refusal}", ""),
    ],
)
def test_a_predictor_needs_values_of_single_answers_in_a_known_range(scorer, message):
    text = CONFIG.replace("{UP}", "far").replace("{MODEL}", "o3").replace("{ALIAS}", "referee").replace(
        "{MORE}", "share: 0.1")  # fmt: skip
    config = parse(text.replace("scorers: {", f"scorers: {{target: {scorer}, ") + "predictor: {target: target}\n")
    found = config_mistakes(config, build_all(config.scorers))
    assert [line.startswith(message) for line in found] == [True] * bool(message)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("{use: length}", "has no scores from 0 to 1 of which more is better (neutral, 0 to unbounded)"),
        ("{use: refusal}", "has no scores from 0 to 1 of which more is better (minimise, 0 to 1)"),
        ("{use: run_finished}", "target scores pairs or runs; choose a scorer of single answers"),
        ("{use: valid_json}", ""),
    ],
)
def test_an_objective_is_a_share_of_successes(scorer, message):
    text = CONFIG.replace("{UP}", "far").replace("{MODEL}", "o3").replace("{ALIAS}", "referee").replace(
        "{MORE}", "share: 0.1")  # fmt: skip
    config = parse(text.replace("scorers: {", f"scorers: {{target: {scorer}, "))
    models = {name: m.model_copy(update={"score_objectives": {"target": 0.9}}) for name, m in config.models.items()}
    found = config_mistakes(config.model_copy(update={"models": models}), build_all(config.scorers))
    assert [message in line for line in found] == [True] * len(models) * bool(message)


def test_a_predictor_needs_one_rate_for_all_calls():
    text = CONFIG.replace("{UP}", "far").replace("{MODEL}", "o3").replace("{ALIAS}", "referee").replace(
        "{MORE}", "share: 0.1")  # fmt: skip
    text = text.replace("scorers: {", "scorers: {target: {use: refusal}, ") + "predictor: {target: target}\n"
    rules = "rules: [{when: {outcome: error}, rate: 1.0}]"
    for sampling, count in (("unit: run", 0), (f"unit: run, {rules}", 1), (rules, 0)):
        config = parse(f"{text}sampling: {{{sampling}}}\n")
        assert len(config_mistakes(config, build_all(config.scorers))) == count


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4.1-mini", "OpenAI"),
        ("openai/gpt-oss-120b", "OpenAI"),
        ("o3", "OpenAI"),
        ("claude-haiku-4-5", "Claude"),
        ("meta-llama/Llama-3.3-70B-Instruct", "Llama"),
        ("Qwen/Qwen3-8B", "Qwen"),
        ("mistralai/Mixtral-8x7B", "Mistral"),
        ("models/gemini-2.5-pro", "Google"),
        ("google/gemma-3-270m", "Google"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "Qwen"),
        ("SmolLM2-135M-Instruct", "SmolLM"),
        ("ft:gpt-4.1-mini:acme", "OpenAI"),
        ("yi-34b", "Yi"),
        ("omniscient", None),
        ("fake-model", None),
    ],
)
def test_the_family_is_told_by_the_name(model, expected):
    assert family(model) == expected


def test_kin_are_of_one_known_family():
    assert shared_family("gpt-5.5", "openai/o3") == "OpenAI"
    assert shared_family("gpt-5.5", "claude-opus-5") is None
    assert shared_family("nobody-1", "nobody-1") is None, "unknown families are not equal"
