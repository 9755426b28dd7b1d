"""The page Predictor and its drawings."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import orjson

from gateway.config.predictor import PredictorConfig
from gateway.features.learned.page import calibration_chart, ratio_chart
from gateway.features.learned.rows import TrainedModel, save_state
from gateway.statistics.change_detection import ChangeDetector
from gateway.store.predictions import Prediction, StoredModel, save_model
from gateway.store.tables import predictions


def model(created: float, ratio: float | None, high: float = 0.9) -> TrainedModel:
    ends = {} if ratio is None else {"variance_ratio_low": 0.4, "variance_ratio_high": high}
    return TrainedModel(f"v{created}", created, 0.0, created, 500, {"variance_ratio": ratio, **ends})


def dots(chart: Any) -> list[float]:
    """Heights of the dots in the wide variant."""
    return [float(s.attributes["cy"]) for s in chart.variants[0].shapes if s.attributes.get("class") == "dot"]


def test_calibration_names_where_it_is_worst():
    chart = calibration_chart([(0.1, 0.1, 30), (0.5, 0.8, 30)])
    assert chart is not None
    assert chart.description.endswith("at a prediction of 0.50, where the mean verdict is 0.80.")
    low, high = dots(chart)
    assert low > high
    assert calibration_chart(()) is None


def test_the_ratio_over_time_begins_with_the_oldest_training():
    chart = ratio_chart([model(3.0, 0.5), model(2.0, None), model(1.0, 0.8, high=99.0)], lambda at: f"at {at:g}")
    assert chart is not None
    first, last = dots(chart)
    assert first < last, "0.8 is above 0.5"
    assert [s.text for s in chart.variants[0].shapes if s.text.startswith("at ")] == ["at 1", "at 3"]
    assert all(0 <= float(s.attributes.get("y1", 0)) <= chart.height for s in chart.variants[1].shapes)
    assert ratio_chart([model(1.0, 0.8)], str) is None


PATH = "/console/predictor"
CARD: dict[str, Any] = {
    "held_out": 400, "mae": 0.21, "mae_of_mean": 0.33, "auc": 0.81, "slope": 0.97, "weight": 0.9,
    "reliability": [(0.1, 0.15, 200), (0.8, 0.7, 200)], "variance_ratio": 0.62, "variance_ratio_low": 0.5,
    "variance_ratio_high": 0.8, "psi": {"words": 0.31, "digits": 0.01},
}  # fmt: skip


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[html.index("<main") :]))


def configure(pages: Any) -> None:
    predictor = PredictorConfig(target="valid_json")
    pages.config.append(pages.config[-1].model_copy(update={"predictor": predictor}))


async def save(pages: Any, version: str, created: float, **card: Any) -> None:
    model = StoredModel(version, "valid_json", created, created - 9000, created - 60, 1234, "{}", CARD | card, ())
    await pages.store.run(lambda c: save_model(c, model))


async def predict(pages: Any, exchange: Any, **fields: Any) -> None:
    plain = {"scorer": "valid_json", "version": "v1", "predicted": 0.42, "residual": 0.07, "pi": 0.3, "judged": True}
    of = Prediction(**{**plain, **fields}, feature_set="", features=b"")
    e = exchange
    row = {
        "exchange_id": e.id, "scorer": of.scorer, "version": of.version, "predicted": of.predicted,
        "residual": of.residual, "pi": of.pi, "judged": of.judged, "received": e.received, "alias": e.alias,
        "model": str(e.target), "stratum": e.stratum, "feature_set": "", "features": b"",
    }  # fmt: skip
    await pages.store.run(lambda c: c.execute(predictions.insert().values(row)))


async def test_without_a_predictor_the_page_explains_it(pages):
    assert "No predictor is configured" in words(await pages.get(await pages.login("viewer"), PATH))


async def test_the_card_and_the_judged_share(pages, make_exchange):
    configure(pages)
    client = await pages.login("viewer")
    assert "no model yet" in words(await pages.get(client, PATH))
    now = pages.admin.clock()
    made = [make_exchange(received=now - 60) for _ in range(4)]
    await pages.add(*made)
    for at, each in enumerate(made):
        await predict(pages, each, judged=at == 0)
    await predict(pages, make_exchange(received=now - 2 * 86_400))
    await save(pages, "v0", now - 7200, variance_ratio=0.9)
    await save(pages, "v1", now - 3600)
    html = await pages.get(client, PATH)
    page = words(html)
    for part in ("25.0 %", "1 of 4 calls; mean π 0.3", "0.62", "0.5 to 0.8; weight 0.9", "0.21", "0.33", "0.81"):
        assert part in page, part
    assert "The predictor is on: the judge's mean varies 38.0 % less with it" in unescape(page)
    assert re.search(r"words 0\.31 ▲ digits 0\.01", page)
    assert "on" in re.findall(r'class="pill good"><bdi>([^<]+)', html)
    assert html.count("<svg") >= 4, "calibration and the ratio over time, wide and narrow"


async def test_a_model_that_does_harm_is_off(pages):
    configure(pages)
    await save(pages, "v1", pages.admin.clock(), variance_ratio=1.4, variance_ratio_low=1.2, variance_ratio_high=1.6)
    assert "off The model is shown to cost precision" in words(await pages.get(await pages.login("viewer"), PATH))


async def test_a_call_shows_its_prediction(pages, make_exchange):
    one = make_exchange()
    await pages.add(one)
    await predict(pages, one)
    page = words(await pages.get(await pages.login("viewer"), f"/console/calls/{one.id}"))
    assert "valid_json 0.42 0.07 0.3 judged" in page


async def test_an_alarm_of_drift_is_shown(pages):
    configure(pages)
    detector = ChangeDetector([0.4], [0.6], 1e-4)
    detector.add([[0.0]] * 60)
    state = {"at": 1.0, "feature_set": "f", "version": "1", "quality": detector.state(), "input": None, "edges": []}
    await pages.store.run(lambda c: save_state(c, "valid_json", "chat", orjson.dumps(state).decode(), 1.0))
    assert re.search(r"chat quality on [\d.]+ 9\.21", words(await pages.get(await pages.login("viewer"), PATH)))
