"""The consumer with a predictor: the draw for the judge is made and stored once, whichever consumer reads it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.config.predictor import PredictorConfig
from gateway.core.randomization import draw

SUMS = "n, failed, s_failed, s_b, s_d, s_e1, s_e2, s_bb, s_dd, s_e1e1"


@pytest.fixture
def guided(room: Any, stated_scorer: Any) -> Any:
    """A room whose adaptive predictor guides the scorer `stated`."""
    room.scorers["stated"] = stated_scorer(share=0.3)
    room.predictor = PredictorConfig(target="stated", adaptive=True, pi_min=0.05)
    return room


async def test_a_judge_sees_those_that_were_drawn_for_it(guided: Any, exchange: Any, tally: Any) -> None:
    sent = [exchange(text) for text in ("1", "0.5", "n/a", "boom") for _ in range(25)]
    async with guided.consuming():
        await guided.send(*sent, tally(sent))
        await guided.until_read()

    drawn = {e.id for e in sent if draw("learn:stated", e.id) < 0.3}
    assert 0 < len(drawn) < len(sent)
    assert dict(guided.sql("SELECT exchange_id, judged FROM predictions")) == {e.id: e.id in drawn for e in sent}
    assert set(guided.sql("SELECT exchange_id, pi FROM scores")) == {(i, 0.3) for i in drawn}
    n, failed, s_failed, s_b, s_d, s_e1, *_ = guided.sql(f"SELECT {SUMS} FROM prediction_sums")[0]  # noqa: S608
    of = [text for e, text in zip(sent, (t for t in ("1", "0.5", "n/a", "boom") for _ in range(25)), strict=True)
          if e.id in drawn]  # fmt: skip
    assert (n, failed, s_failed) == (len(sent), of.count("boom"), pytest.approx(of.count("boom") / 0.3))
    assert s_b == pytest.approx((of.count("1") + of.count("0.5") / 2) / 0.3)
    assert s_d == pytest.approx((of.count("1") + of.count("0.5")) / 0.3)
    assert s_e1 == pytest.approx(len(sent) - len(drawn) / 0.3)


async def test_the_sums_hold_each_exchange_once_with_two_consumers(guided: Any, exchange: Any) -> None:
    """Every exchange is sent three times, to whichever consumer reads it."""
    sent = [exchange("1") for _ in range(60)]
    async with guided.consuming("c1"), guided.consuming("c2"):
        await asyncio.gather(*(guided.send(*sent) for _ in range(3)))
        await guided.until_read()
    drawn = sum(draw("learn:stated", e.id) < 0.3 for e in sent)
    n, failed, _, s_b, s_d, s_e1, *_ = guided.sql(f"SELECT {SUMS} FROM prediction_sums")[0]  # noqa: S608
    assert (n, failed) == (60, 0)
    assert (s_b, s_d) == pytest.approx((drawn / 0.3, drawn / 0.3))
    assert s_e1 == pytest.approx(60 - drawn / 0.3)
    assert guided.sql("SELECT count(*) FROM predictions") == [(60,)]


async def test_a_predictor_that_breaks_stops_no_scoring(guided: Any, exchange: Any, monkeypatch: Any) -> None:
    from gateway.features.learned.predictor import Predictor

    def broken(*_: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Predictor, "predict", broken)
    sent = [exchange("1") for _ in range(20)]
    async with guided.consuming():
        await guided.send(*sent)
        await guided.until_read()
    assert guided.sql("SELECT DISTINCT pi, version FROM predictions") == [(0.3, "")]
    assert {i for (i,) in guided.sql("SELECT exchange_id FROM scores")} == {
        e.id for e in sent if draw("learn:stated", e.id) < 0.3
    }


async def test_the_consumer_shows_its_drift_alarms_and_the_mean_of_all(guided: Any, exchange: Any) -> None:
    """The features have a usual range after 1 000 exchanges; verdicts are too few for one."""
    begin = time.time() - 2000.0
    sent = [exchange("1" if i % 4 else "0", received=begin + i) for i in range(1100)]
    guided.drift_s = 0.0
    async with guided.consuming() as context:
        await guided.send(*sent)
        await guided.until_read()
        await guided.until(lambda: context.metrics.figures.drift)
        figures = context.metrics.figures

    (drift,) = figures.drift
    assert (drift.scorer, drift.alias, drift.kind, drift.alarm) == ("stated", "chat", "input", False)
    (scores,) = guided.shown[-1].scores
    assert scores.low < 0.75 < scores.high
    assert abs(scores.mean - 0.75) < 0.1
