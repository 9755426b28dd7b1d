"""A plan whose units are few keys says what that means before it starts; one with a single key does not start."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.simulated import a_plan
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.plan import Plan
from gateway.core.ramp import RampDesign
from gateway.features.experiments.unit_supply import supply_cautions, supply_refusal

NOW = 200_000.0
RAMP = RampDesign((0.05, 0.5, 1.0), 3600.0, 1)


def served(store: Any, exchange: Any, callers: int, **changes: Any) -> None:
    usual = {"alias": "chat", "received": NOW - 60.0, "request": b'{"messages":[]}', "user_digest": None}
    store.write(*(exchange("1", caller=f"team{i % callers}", **{**usual, **changes}) for i in range(60)))


def cautions(store: Any, plan: Plan) -> list[str]:
    return store.run(lambda c: list(supply_cautions(c, plan, NOW)))


def refusal(store: Any, plan: Plan) -> str | None:
    return store.run(lambda c: supply_refusal(c, plan, NOW))


def ramp(**changes: Any) -> Plan:
    return a_plan(**{"mode": "both", "unit": "key", "ramp": RAMP, **changes})


def test_twenty_keys_at_five_percent_may_be_nobody(store: Any, exchange: Any) -> None:
    served(store, exchange, 20)
    (caution,) = cautions(store, ramp())
    assert "came from 20 keys" in caution
    assert "no key gets the candidate in 36% of plans" in caution
    assert "begin with 0.14 or more" in caution
    assert refusal(store, ramp()) is None


def test_a_step_that_needs_more_units_than_there_are_says_so(store: Any, exchange: Any) -> None:
    served(store, exchange, 20)
    found = cautions(store, ramp(ramp=RampDesign((0.5, 1.0), 3600.0, 100)))
    assert len(found) == 1
    assert "has about 10, and ramp.min_units is 100" in found[0]


@pytest.mark.parametrize("unit", ["key", "conversation"])
def test_one_key_without_conversations_does_not_start(store: Any, exchange: Any, unit: Any) -> None:
    served(store, exchange, 1)
    found = refusal(store, ramp(unit=unit))
    assert found is not None
    assert "60 recorded calls of chat are of one key" in found
    assert "metadata.conversation_id" in found
    assert "unit: request" in found
    assert cautions(store, ramp(unit=unit)) == []


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        (ramp(unit="conversation"), {"request": b'{"metadata":{"conversation_id":"c1"}}'}),
        (ramp(unit="request"), {}),
        (ramp(), {"received": NOW - 90_000.0}),
        (ramp(), {"alias": "other"}),
        (a_plan(mode="shadow", unit="key"), {}),
        (a_plan(mode="split", split=0.5, unit="conversation"), {}),
    ],
    ids=["conversations", "requests", "long ago", "another model", "shadows only", "calls without one are units"],
)
def test_nothing_is_said_where_units_are_many_or_unknown(store: Any, exchange: Any, plan: Plan, changes: Any) -> None:
    served(store, exchange, 1, **changes)
    assert refusal(store, plan) is None
    assert cautions(store, plan) == []


def test_users_are_counted_too(store: Any, exchange: Any) -> None:
    served(store, exchange, 4, user_digest="one")
    found = refusal(store, a_plan(mode="split", split=0.5, unit="user"))
    assert found is not None
    assert "are of one user" in found


def test_check_and_start_refuse_a_single_key_alike(
    keep: Any, exchange: Any, tmp_path: Path, stream_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {"upstream": "a", "model": "m"}
    ramped = {"model": "chat", "control": target, "candidate": {**target, "model": "n"}, "primary": "refusal",
              "margin": 0.05, "start": "manual", "unit": "key",
              "ramp": {"steps": [0.5, 1.0], "min_units": 1}}  # fmt: skip

    def config(calls_of: int) -> None:
        now, usual = time.time(), {"alias": "chat", "request": b'{"messages":[]}', "user_digest": None}
        url = keep([exchange("1", caller=f"team{i % calls_of}", received=now - 60, **usual) for i in range(60)])
        text = {
            "open": True, "upstreams": {"a": {"kind": "fake"}}, "models": {"chat": {"targets": [target]}},
            "scorers": {"refusal": {}}, "stream": {"url": stream_url, "name": stream_name}, "store": {"url": url},
            "experiments": {"swap": ramped},
        }  # fmt: skip
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(text))

    monkeypatch.chdir(tmp_path)
    config(1)
    checked = CliRunner().invoke(app, ["check", "gateway.yaml"])
    started = CliRunner().invoke(app, ["ab", "start", "swap"])
    assert (checked.exit_code, started.exit_code) == (1, 1)
    assert "Ready" not in checked.output
    for words in (checked.output, str(started.exception)):
        assert "60 recorded calls of chat are of one key" in words
    config(8)
    checked = CliRunner().invoke(app, ["check", "gateway.yaml"])
    assert (checked.exit_code, "Ready" in checked.output) == (0, True)
    assert "is running with plan" in CliRunner().invoke(app, ["ab", "start", "swap"]).output
