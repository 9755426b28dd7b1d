"""`gateway learn` in plain words. tests/features/learned/test_inspect.py reads what is shown here from a store."""

from __future__ import annotations

from gateway.features.learned.inspect import Explanation, FeatureEffect, Importances
from gateway.features.learned.report import explanation_text, importances_text

ROW = {"exchange_id": "e\x1b[1m", "version": "a" * 64, "predicted": 0.25, "residual": 0.04, "pi": 0.3, "judged": False}


def test_an_explanation_has_prediction_draw_and_reasons() -> None:
    effects = (FeatureEffect("answer_log", -0.2), FeatureEffect("json", 0.0))
    text = explanation_text(Explanation(ROW, "b" * 64, effects))
    assert "predicted 0.250, expected squared error 0.0400, model aaaaaaaaaaaa" in text
    assert "probability of being judged 0.300: not drawn" in text
    assert "explained with the newest model, bbbbbbbbbbbb" in text
    assert text.splitlines()[-1] == "  -0.2000  answer_log"
    assert "\x1b" not in text


def test_only_the_most_important_features_are_shown() -> None:
    effects = tuple(FeatureEffect(f"f{i}", 1.0 / (i + 1)) for i in range(40))
    lines = importances_text(Importances("c" * 64, effects, 120, True)).splitlines()
    assert len(lines) == 16
    assert "over 120 exchanges after its training" in lines[0]
    assert lines[1] == "  1.00000  f0"
