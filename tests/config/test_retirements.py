"""The targets of a config that retire: what the file says, else the list that ships."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
import yaml

from gateway.config.loading import parse
from gateway.config.retirements import RetiringModel, day_of, due, retiring_models, retiring_targets
from gateway.core.errors import ConfigError

LISTED = {"upstream": "openai", "model": "gpt-4o-mini"}


def models_of(targets: list[dict[str, Any]], **more: Any) -> list[RetiringModel]:
    upstreams = {
        "openai": {"kind": "openai"},
        "proxy": {"kind": "openai", "base_url": "https://proxy.example/v1"},
        "mine": {"kind": "vllm"},
    }
    config = {"open": True, "upstreams": upstreams, "models": {"chat": {"targets": targets}, **more}}
    return retiring_models(retiring_targets(parse(yaml.safe_dump(config))))


def test_a_listed_model_has_its_date_at_its_own_provider_alone() -> None:
    [found] = models_of([LISTED, {"upstream": "proxy", "model": "gpt-4o-mini"}, {"upstream": "mine", "model": "m"}])
    assert (found.name, found.retirement.day, found.retirement.successor) == (
        "openai/gpt-4o-mini",
        date(2027, 1, 14),
        "gpt-6-luna",
    )
    assert found.retirement.source.startswith("https://developers.openai.com/")


def test_the_file_wins_over_the_list() -> None:
    [found] = models_of([{**LISTED, "retires": date(2027, 6, 1)}])
    assert (found.retirement.day, found.retirement.source) == (date(2027, 6, 1), "gateway.yaml")
    assert found.retirement.successor == "gpt-6-luna"
    assert models_of([{**LISTED, "retires": None}]) == []
    [own] = models_of([{"upstream": "mine", "model": "m", "retires": "2027-02-01"}])
    assert (own.name, own.retirement.successor) == ("mine/m", None)


def test_the_aliases_of_a_model_are_one_notice() -> None:
    fallback = {"targets": [{"upstream": "mine", "model": "m"}], "fallback": [LISTED]}
    varied = {"targets": [{**LISTED, "set": {"temperature": 0}}]}
    [found] = models_of([LISTED], code=fallback, cold=varied)
    assert found.aliases == ("chat", "code", "cold")
    assert [each.served for each in found.targets] == [True, False, True]


def test_the_first_day_comes_first() -> None:
    days = {"b": "2027-03-01", "a": "2027-02-01"}
    found = models_of([{"upstream": "mine", "model": model, "retires": day} for model, day in days.items()])
    assert [each.name for each in found] == ["mine/a", "mine/b"]


def test_it_is_announced_sixty_days_before() -> None:
    found = models_of([LISTED])
    assert list(due(found, date(2026, 11, 15))) == found
    assert list(due(found, date(2026, 11, 14))) == []
    assert list(due(found, date(2028, 1, 1))) == found


def test_the_log_names_aliases_successor_and_command() -> None:
    [found] = models_of([LISTED], code={"targets": [LISTED]})
    said = found.announced(date(2026, 12, 4))
    assert said.startswith("openai/gpt-4o-mini retires in 41 days (2027-01-14); 2 aliases: chat, code; ")
    assert "successor: gpt-6-luna; `gateway ab draft openai/gpt-4o-mini` writes" in said
    [own] = models_of([{"upstream": "mine", "model": "m", "retires": "2027-02-01"}])
    said = own.announced(date(2027, 2, 4))
    assert said.startswith("mine/m retired 3 days ago (2027-02-01); 1 alias: chat; successor: none is listed; ")
    assert "`gateway ab draft mine/m --successor NAME`" in said


@pytest.mark.parametrize(
    ("written", "got"),
    [
        ("20270114", "20270114"),
        ("'20270114'", "'20270114'"),
        ("2027-02-30", "'2027-02-30'"),
        ("soon", "'soon'"),
        ("14.01.2027", "'14.01.2027'"),
        ("2027-W02-4", "'2027-W02-4'"),
        ("2027-01-14T00:00:00Z", "2027-01-14 00:00:00+00:00"),
        ("1.5", "1.5"),
        ("true", "True"),
    ],
)
def test_anything_but_a_day_is_refused_with_its_form(written: str, got: str) -> None:
    text = (
        "open: true\nupstreams: {mine: {kind: vllm}}\n"
        f"models: {{chat: {{targets: [{{upstream: mine, model: m, retires: {written}}}]}}}}\n"
    )
    with pytest.raises(ConfigError) as refused:
        parse(text)
    [mistake] = refused.value.mistakes
    assert mistake == (
        f"gateway.yaml: models.chat.targets[0].retires: expected a day (UTC) such as 2027-01-14, got {got}"
    )


def test_a_day_is_that_of_utc() -> None:
    assert day_of(datetime(2027, 1, 14, 23, 59, tzinfo=UTC).timestamp()) == date(2027, 1, 14)
