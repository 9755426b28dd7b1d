"""The truth of a probability, raw and by a map."""

from __future__ import annotations

import numpy as np

from gateway.features.decisions.labelled import LabelledCalls
from gateway.features.decisions.model import MapInForce
from gateway.features.decisions.reliability import reliability, segments
from gateway.statistics.recalibration import IDENTITY, PlattMap

TRUTH = PlattMap(-1.0, 0.6)


def calls(n: int) -> LabelledCalls:
    random = np.random.default_rng(51)
    p = random.uniform(0.05, 0.95, n)
    y = (random.random(n) < TRUTH(p)).astype(float)
    return LabelledCalls(p, y, np.ones(n), np.arange(n) * 1.0, tuple(map(str, range(n))), ({},) * n)


def test_a_true_map_repairs_what_the_scorer_says() -> None:
    found = reliability(calls(600), MapInForce(TRUTH, 100, 99.0))
    assert found.raw is not None
    assert found.mapped is not None
    assert (found.raw.n, found.mapped.n) == (600, 500), "a map is judged by labels that it has not seen"
    assert found.raw.bias.low > 0.05
    assert found.mapped.bias.low < 0 < found.mapped.bias.high
    assert found.mapped.error.low == 0.0 < found.raw.error.low
    assert found.raw.said > found.raw.rate


def test_few_labels_show_nothing() -> None:
    assert reliability(calls(29), MapInForce(IDENTITY, 0, 0.0)).raw is None
    assert reliability(calls(110), MapInForce(TRUTH, 100, 99.0)).mapped is None


def test_a_segment_in_which_the_scorer_errs_is_named() -> None:
    """Right about one model name, and 0.3 too sure about the other."""
    random = np.random.default_rng(52)
    p = random.uniform(0.4, 0.9, 400)
    other = np.arange(400) % 2 == 1
    y = (random.random(400) < p - 0.3 * other).astype(float)
    names = tuple(("fast" if odd else "chat", "local/m") for odd in other)
    found = segments(
        LabelledCalls(p, y, np.ones(400), np.arange(400) * 1.0, tuple(map(str, range(400))), ({},) * 400, names)
    )
    assert [(each.kind, each.name, each.bias.n) for each in found] == [
        ("model name", "chat", 200),
        ("model name", "fast", 200),
    ]
    chat, fast = found
    assert chat.bias.low < 0 < chat.bias.high
    assert fast.bias.low > 0.1
    assert segments(calls(100)) == ()
