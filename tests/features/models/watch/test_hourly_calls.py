"""Sums of an hour's calls by cell and series."""

from __future__ import annotations

import math

import numpy as np

from gateway.features.models.watch.cells import OTHERS, TrafficCell
from gateway.features.models.watch.hourly_calls import (
    MOST_CUSTOMERS,
    TargetKey,
    cell_hours,
    form_of,
    hour_of_target,
    hours_of_targets,
)
from gateway.statistics.adjusted_means import SUMS
from tests.features.models.watch.watched_calls import TARGET, call


def test_a_call_has_the_values_that_apply() -> None:
    values = call(mean_logprob=-0.2, cached_tokens=150).values()
    assert (values["failures"], values["refusals"], values["cached share"]) == (0.0, 0.0, 0.5)
    assert math.isclose(values["first token"], math.log(0.4))
    assert "invalid tool calls" not in values
    assert call(outcome="upstream_error").values() == {"failures": 1.0}
    assert call(outcome="client_gone").values() == {}
    assert call(opening="I'm sorry, but I can't help with that.").values()["refusals"] == 1.0
    assert call(finish_reason="content_filter").values()["refusals"] == 1.0
    assert call(tool_calls='[{"name":"f","arguments":"{\\"a\\":"}]').values()["invalid tool calls"] == 1.0
    assert call(tool_calls='[{"name":"f","arguments":"{}"}]').values()["invalid tool calls"] == 0.0
    assert call(tool_calls="[3]").values()["invalid tool calls"] == 1.0
    empty = call(length=0, output_tokens=None, first_token_s=None, cached_tokens=None, input_tokens=None)
    assert empty.values() == {"failures": 0.0}


def test_sums_are_those_of_the_calls() -> None:
    made = [
        call("1", weight=2.0, scores={"score j 1.a": (0.5, 4.0)}),
        call("1", outcome="timeout"),
        call("2", user="ann"),
        call("3", input_tokens=900),
    ]
    hour = hour_of_target(7, made)
    assert [cell.form for cell in hour.cells] == ["chat 0", "chat 0", "chat 1"]
    assert hour.cells[0].customer == "app"
    assert hour.cells[1].customer.startswith("app/")
    assert "ann" not in hour.cells[1].customer
    failures, score = hour.series.index("failures"), hour.series.index("score j 1.a")
    assert hour.sums[0, failures].tolist() == [3.0, 1.0, 1.0, 5.0, 9.0], "one unit of weight 3"
    assert hour.sums[0, score].tolist() == [4.0, 2.0, 1.0, 16.0, 16.0]
    assert hour.calls.tolist() == [3.0, 1.0, 1.0]


def test_targets_are_apart_and_customers_bounded() -> None:
    other = TargetKey("chat", "b", "m")
    made = [call(str(i), caller=f"k{i:03d}") for i in range(MOST_CUSTOMERS + 5)]
    found = hours_of_targets(7, [*made, call(target=other)])
    assert set(found) == {TARGET, other}
    assert len(found[TARGET].cells) == MOST_CUSTOMERS + 1
    assert found[TARGET].cells[-1] == TrafficCell(OTHERS, "chat 0")
    assert found[TARGET].calls[-1] == 5


def test_hours_are_joined_by_name() -> None:
    first = hour_of_target(7, [call(caller="a")])
    second = hour_of_target(9, [call(caller="b", scores={"score j 1.a": (1.0, 1.0)}), call(caller="a")])
    joined = cell_hours([first, second])
    assert joined.sums.strata.shape == (2, 2, len(second.series), SUMS)
    assert joined.hours.tolist() == joined.sums.hours.tolist() == [7, 9]
    np.testing.assert_array_equal(joined.calls, [[1, 0], [1, 1]])
    only = cell_hours([first, second], ["score j 1.a"])
    assert only.sums.strata[:, :, 0, 1].tolist() == [[0, 0], [0, 1]]
    newest = cell_hours([first, second], None, 1)
    assert newest.sums.hours.tolist() == [9]
    np.testing.assert_array_equal(newest.calls, joined.calls)


def test_a_form_is_coarse() -> None:
    assert [form_of("chat", False, n) for n in (None, 10, 500, 9_000)] == ["chat", "chat 0", "chat 1", "chat 2"]
    assert form_of("responses", True, 10) == "responses run 0"
