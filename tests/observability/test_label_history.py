"""A deleted alias or model leaves its series after an hour, in one process and in several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.config.metric_labels import MetricLabels
from gateway.observability.label_history import KEEP_S, ExpiredLabels, LabelHistory
from gateway.observability.worker_metrics import exposition


class Clock:
    now = 1e6

    def __call__(self) -> float:
        return self.now


def labels(aliases: Iterable[str], *models: str) -> MetricLabels:
    return MetricLabels(
        frozenset(aliases), {f"u/{m}": ("u", m) for m in models}, {}, frozenset(), frozenset(), frozenset()
    )


@pytest.fixture(params=["one process", "workers"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """The directory of the workers, or None."""
    return tmp_path if request.param == "workers" else None


def test_deleted_labels_are_kept_for_an_hour(shared: Path | None) -> None:
    clock = Clock()
    history = LabelHistory(shared, clock)
    history.follow(labels(["chat", "old"], "small", "big"))
    history.follow(labels(["chat"], "small"))
    clock.now += KEEP_S
    assert not history.expired()
    assert history.kept("old")
    assert history.target("u/big") == ("u", "big")
    clock.now += 1
    assert history.expired() == ExpiredLabels(frozenset({"old"}), frozenset({("u", "big")}))
    assert not history.kept("old")
    assert (history.target("u/big"), history.target("u/small")) == (None, ("u", "small"))


def test_an_alias_that_comes_back_is_shown_again(shared: Path | None) -> None:
    clock = Clock()
    history = LabelHistory(shared, clock)
    for names in (["chat", "old"], ["chat"]):
        history.follow(labels(names))
    clock.now += 2 * KEEP_S
    history.follow(labels(["chat", "old"]))
    assert not history.expired()


def test_a_later_worker_knows_when_an_alias_was_deleted(tmp_path: Path) -> None:
    clock = Clock()
    LabelHistory(tmp_path, clock).follow(labels(["chat", "old"]))
    LabelHistory(tmp_path, clock).follow(labels(["chat"]))
    clock.now += KEEP_S + 1
    later = LabelHistory(tmp_path, clock)
    later.follow(labels(["chat"]))
    assert later.expired().aliases == {"old"}


def test_expired_labels_leave_the_page_of_one_process() -> None:
    registry = CollectorRegistry()
    metric = Counter("calls", "calls", ["alias", "upstream", "model"], registry=registry)
    for values in (("chat", "u", "small"), ("old", "u", "small"), ("chat", "u", "big"), ("chat", "v", "big")):
        metric.labels(*values).inc()
    expired = ExpiredLabels(frozenset({"old"}), frozenset({("u", "big")}))
    lines = [line for line in exposition(registry, None, expired).decode().splitlines() if not line.startswith("#")]
    assert lines == [
        'calls_total{alias="chat",model="small",upstream="u"} 1.0',
        'calls_total{alias="chat",model="big",upstream="v"} 1.0',
    ]
