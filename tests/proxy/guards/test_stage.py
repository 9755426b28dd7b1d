"""The guards that judge a call, and the rules by which its record is redacted."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.core.errors import NotAllowed
from gateway.core.guards import GuardRamp, from_json
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.guards.stage import Guards, build_guards, record_redactor
from gateway.proxy.relay.state import NOT_HELD, CallContext
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.vendor_paths import VENDOR_APIS
from gateway.proxy.types import DetachedClient
from gateway.runtime.tasks import Tasks

BASE = """
open: true
upstreams: {u: {kind: openai, api_key: sk}}
models: {chat: {targets: [{upstream: u, model: m}]}, other: {targets: [{upstream: u, model: n}]}}
teams: {t: {}}
keys: [{name: web, sha256: "0000000000000000000000000000000000000000000000000000000000000000"}]
"""


def config_of(**sections: Any) -> Config:
    return parse(BASE + yaml.safe_dump(sections), "f.yaml", {})


@pytest.mark.parametrize(
    ("limits", "caller", "alias", "judged"),
    [
        ({}, Caller("x"), "chat", True),
        ({"keys": ["web"]}, Caller("web"), "chat", True),
        ({"keys": ["web"]}, Caller("x"), "chat", False),
        ({"teams": ["t"]}, Caller("x", team="t"), "chat", True),
        ({"teams": ["t"]}, Caller("x"), "chat", False),
        ({"models": ["other"]}, Caller("x"), "chat", False),
        ({}, Caller("judge"), "chat", False),
    ],
)
async def test_a_guard_judges_the_calls_it_is_for(limits: Any, caller: Caller, alias: str, judged: bool) -> None:
    config = config_of(guards={"g": {"on": "answer", "scorer": "secrets", **limits}})
    async with Tasks() as tasks:
        built = build_guards(config, ProxyMetrics(CollectorRegistry()), None, {}, lambda: 0.0)
        guards = Guards(built, None, frozenset({"judge"}), 1 << 20, tasks, {})
        call = Call("1", 0.0, 0.0, caller, "chat", b"POST", b"/x", alias, False, b"{}")
        context, route = CallContext(NOT_HELD), None
        for _ in range(2):  # the second time from what is known of the key and the model
            await guards.enter(call, route, DetachedClient(), context)  # type: ignore[arg-type]
        assert (context.guarded is not None) is judged
    assert guards.failing() == {}
    found = {"on": "answer", "action": "observe", "ramp": None, "failing": "", "breaker_open": False}
    assert guards.report() == {"g": found}


@pytest.mark.parametrize(
    ("ramp", "refused"),
    [
        (None, False),
        (GuardRamp("flag", "flag", 1.0, "d", b"s", counted=True), False),
        (GuardRamp("block", "flag", 1.0, "d", b"s"), True),
    ],
)
async def test_a_ramp_refuses_what_its_guard_cannot_read(ramp: GuardRamp | None, refused: bool) -> None:
    """The action in the config does so too; while it only flags, nobody is refused."""
    config = config_of(guards={"g": {"on": "answer", "scorer": "secrets"}})
    ramps = {} if ramp is None else {"g": ramp}
    async with Tasks() as tasks:
        built = build_guards(config, ProxyMetrics(CollectorRegistry()), None, ramps, lambda: 0.0)
        guards = Guards(built, None, frozenset(), 1 << 20, tasks, ramps)
        call = Call("1", 0.0, 0.0, Caller("web"), sorted(VENDOR_APIS)[0], b"POST", b"/x", "chat", False, b"{}")
        with pytest.raises(NotAllowed, match='the guard "g"') if refused else contextlib.nullcontext():
            await guards.enter(call, None, DetachedClient(), CallContext(NOT_HELD))  # type: ignore[arg-type]
    applied = None if ramp is None else {"action": ramp.action, "share": 1.0, "before": "flag"}
    assert (guards.report()["g"]["action"], guards.report()["g"]["ramp"]) == ("observe", applied)


@pytest.mark.parametrize("counted", [True, False])
async def test_a_ramp_that_takes_its_steps_records_each_call_with_its_unit(counted: bool) -> None:
    config = config_of(guards={"g": {"on": "request", "scorer": "secrets"}})
    ramps = {"g": GuardRamp("block", "flag", 1.0, "d", b"s", counted=counted)}
    async with Tasks() as tasks:
        built = build_guards(config, ProxyMetrics(CollectorRegistry()), None, ramps, lambda: 0.0)
        guards = Guards(built, None, frozenset(), 1 << 20, tasks, ramps)
        body = b'{"model": "chat", "messages": [{"role": "user", "content": "hello"}]}'
        call = Call("1", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/x", "chat", False, body)
        context = CallContext(NOT_HELD)
        await guards.enter(call, None, DetachedClient(), context)  # type: ignore[arg-type]
        assert context.guarded is not None
        (decision,) = from_json(context.guarded.to_json())
        assert (decision.action, decision.result, bool(decision.unit)) == ("block", "pass", counted)
        assert context.guarded.record_rate() == ((1.0, "g") if counted else (0.0, ""))


def test_records_are_redacted_with_the_rules_of_all_guards() -> None:
    own = {"name": "staff", "regex": "EMP-[0-9]{6}"}
    config = config_of(
        guards={
            "s": {"on": "answer", "scorer": "secrets"},
            "p": {"on": "request", "scorer": "personal_data", "kinds": ["email"]},
            "o": {"on": "answer", "scorer": "patterns", "patterns": [own]},
        },
        redaction={"default": "full", "rules": ["card"], "patterns": [{"name": "ticket", "regex": "TCK-[0-9]{4}"}]},
    )
    redactor = record_redactor(config)
    assert redactor is not None
    assert redactor.content == "redacted"
    texts = ("a@b.org", "EMP-123456", "TCK-1234", "4111 1111 1111 1111", "AKIA" + "IOSFODNN7EXAMPLE")
    found = {hit.rule for text in texts for window in redactor._finder.hits(text) for hit in window}  # fmt: skip
    assert found == {"email", "staff", "ticket", "card", "key"}
    assert record_redactor(config_of(guards={"l": {"on": "answer", "scorer": "length", "max_chars": 5}})) is None
    assert from_json(None) == ()
