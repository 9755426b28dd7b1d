"""The fields of one JSON answer that differ in the other."""

from __future__ import annotations

import json

import pytest

from gateway.core.score import Skipped
from gateway.scorers.json_distance import MAX_LEAVES, JsonDistance, json_leaves, leaf_distance


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1.0}', 0.0),
        ('{"a": {"x": 1, "y": 2}}', '{"a": {"x": 1, "y": 3}}', 0.5),
        ("[1, 2, 3, 4]", "[1, 2, 3]", 0.25),
        ('{"a": {}}', '{"a": []}', 1.0),
        ('{"a": null}', "{}", 1.0),
        ("{}", "{}", 0.0),
        ("```json\n[1]\n```", "[1]", 0.0),
        ('{"a": true}', '{"a": 1}', 1.0),
    ],
)
def test_fields_that_differ_over_all_fields(ask_pair, pair, a, b, value):
    assert ask_pair(JsonDistance("j"), pair(a, b)).value == pytest.approx(value)


def test_text_that_is_not_json_has_distance_1(ask_pair, pair):
    assert ask_pair(JsonDistance("j"), pair("{}", "It is so.")).value == 1.0
    assert isinstance(ask_pair(JsonDistance("j"), pair("3", "\ud800")), Skipped)


def test_only_so_many_fields_and_so_deep_are_looked_at():
    assert len(json_leaves(json.dumps(list(range(3 * MAX_LEAVES))))) == MAX_LEAVES
    deep = "[" * 900 + "]" * 900
    assert len(json_leaves(deep)) == 1
    assert json_leaves("[" * 100_000) is None


def test_paths_do_not_run_together():
    one, other = json_leaves('{"a.b": 1}'), json_leaves('{"a": {"b": 1}}')
    assert leaf_distance(one, other) == 1.0
