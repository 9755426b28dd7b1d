"""The price of a verdict in a few lines, as bars and for programs."""

from __future__ import annotations

from gateway.verdict.price.forecast import PowerForecast, VerdictPrice
from gateway.verdict.price.powers import EFFECTS, Power
from gateway.verdict.report.price import lines, to_dict

QUALITY = Power("quality", 0.05, 0.1, "assumed", 40, 300, "new", "primary", 1.0, (300, 150, 90))
GATE = Power("aa", 0.05, 0.1, "assumed", 10, 250, "new", "gate", 0.25, (1000,) * 3)
PRICES = tuple(VerdictPrice(e, 1000, n, 5000, 1250, 4.0) for e, n in zip(EFFECTS, (300, 150, 90), strict=True))
FOUND = PowerForecast((QUALITY, GATE), 250.0, 40, PRICES)


def test_the_first_line_has_the_whole_price() -> None:
    text = lines("swap", FOUND)
    assert text[0] == (
        "A verdict on swap needs about 1\u202f000 pairs (40 so far): 5\u202f000 requests, 1\u202f250 paid calls, "
        "4.0 days. It waits for the gate aa."
    )
    assert len(text) <= 15
    assert text[2].split()[-1] == "300"
    assert text[-2].startswith("gate aa"), "the slowest is the first"


def test_the_chart_fills_a_bar_with_the_pairs_so_far() -> None:
    bars = lines("swap", FOUND, chart=True)[-3:]
    assert bars[0] == "new primary quality  ██░░░░░░░░░░ 300 pairs"
    assert bars[1].count("█") + bars[1].count("░") == 40


def test_a_split_by_run_is_priced_in_runs() -> None:
    text = lines("repairs", FOUND, by_run=True)
    assert text[0] == (
        "A verdict on repairs needs about 1\u202f000 runs (40 so far): 1\u202f250 paid calls, 4.0 days. "
        "It waits for the gate aa."
    )
    assert "pair" not in "".join(text).replace("repairs", "")
    assert "ship: runs" in text[1]


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    unknown = Power("total_s", 0.5, None, "no guess", 0, None, "new", "primary", 1.0, (None, None, None))
    nothing = tuple(VerdictPrice(e, None, None, None, None, None) for e in EFFECTS)
    text = lines("swap", PowerForecast((unknown,), None, 0, nothing))
    assert text[0].startswith("swap: the number of pairs is unknown yet: total_s")
    assert "too many" in text[2]
    assert "unknown" in lines("swap", PowerForecast((unknown,), None, 0, nothing), chart=True)[-2]


def test_a_plan_without_a_metric_has_no_price() -> None:
    assert lines("swap", PowerForecast((), None)) == [
        "swap: no primary metric and no guardrail, so there is nothing to decide"
    ]


def test_programs_read_the_slowest_condition() -> None:
    made = to_dict(FOUND)
    assert (made["needed"], made["waits_for"]) == (1000, {"metric": "aa", "candidate": "new"})
    assert made["prices"][0]["paid_calls"] == 1250
