"""The drawings of a predictor's card."""

from __future__ import annotations

from typing import Any

from gateway.features.learned.charts import calibration_chart, ratio_chart
from gateway.store.predictor_history import TrainedModel


def model(created: float, ratio: float | None, high: float = 0.9) -> TrainedModel:
    ends = {} if ratio is None else {"variance_ratio_low": 0.4, "variance_ratio_high": high}
    return TrainedModel(f"v{created}", created, 0.0, created, 500, {"variance_ratio": ratio, **ends})


def dots(chart: Any) -> list[float]:
    """Their heights in the wide variant."""
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
    assert first < last, "0.8 stands above 0.5"
    assert [s.text for s in chart.variants[0].shapes if s.text.startswith("at ")] == ["at 1", "at 3"]
    assert all(0 <= float(s.attributes.get("y1", 0)) <= chart.height for s in chart.variants[1].shapes)
    assert ratio_chart([model(1.0, 0.8)], str) is None
