"""The report for programs: the names that later versions keep, and a schema that describes every one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema_rs
import orjson
import pytest

from gateway.core.sanitize import plain
from gateway.reports.model import Estimate, IntervalTrail, RampChangeShown, RampHistory
from gateway.verdict.report.as_json import MOST_POINTS, VERSION, schema, to_dict, to_json

KINDS = ["ship", "hold", "reject", "nothing", "hostile"]


def read(report: Any) -> Any:
    return orjson.loads(to_json(report))


def test_the_json_keeps_the_promised_names(report):
    made = read(report())
    assert list(made)[:4] == ["version", "experiment", "plan", "candidate"]
    assert (made["version"], made["experiment"], made["plan"]) == (VERSION, "swap", "3fa2b1c09d7e4f58")
    assert (made["verdict"], made["direction"], made["margin"]) == ("ship", "unclear", "equivalent")
    assert made["sentence"].endswith("Ship.")
    kept = ("metric", "a", "b", "difference", "low", "high", "pairs")
    assert [made["primary"][name] for name in kept] == ["helpfulness", 0.731, 0.735, 0.004, -0.011, 0.019, 1240]
    assert [each["metric"] for each in made["guardrails"]] == ["error_rate", "refusal", "cost_per_1k"]
    assert [each["state"] for each in made["gates"].values()] == ["green", "green", "green"]
    assert [each["metric"] for each in made["metrics"]][-2:] == ["total_s", "length"]
    assert made["withheld"] == {"not offered: busy": 31, "not offered: budget": 6, "judge failed": 4, "lost": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_every_report_matches_the_schema(report, kind):
    jsonschema_rs.validator_for(schema()).validate(read(report(kind)))


def test_the_schema_refuses_other_objects(report):
    valid = jsonschema_rs.validator_for(schema()).is_valid
    made = read(report())
    assert valid(made)
    assert not valid({**made, "verdict": "maybe"})
    assert not valid({**made, "gates": {"a/a": {"state": 1, "says": "", "value": None}}})
    assert not valid({**made, "primary": {**made["primary"], "low": "none"}})
    for name in made:
        assert not valid({other: value for other, value in made.items() if other != name}), name


def undescribed(value: Any, rule: dict[str, Any], path: str = "") -> Iterator[str]:
    """The fields that the schema does not name."""
    rule = next((each for each in rule.get("oneOf", ()) if each.get("type") != "null"), rule)
    if "$ref" in rule:
        rule = schema()["$defs"][rule["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        rules = rule.get("prefixItems") or [rule.get("items", {})] * len(value)
        for each, its in zip(value, rules, strict=True):
            yield from undescribed(each, its, path)
    if isinstance(value, dict):
        for name, each in value.items():
            known = rule.get("properties", {}).get(name, rule.get("additionalProperties"))
            if known is None:
                yield f"{path}.{name}"
            else:
                yield from undescribed(each, known, f"{path}.{name}")


def test_the_schema_describes_every_field(report):
    assert list(undescribed(read(report()), schema())) == []
    assert list(undescribed({**read(report()), "more": 1}, schema())) == [".more"]


def test_nan_is_null_and_control_characters_are_escaped(report):
    odd = IntervalTrail("m", ((1, math.nan, -math.inf, math.inf),))
    made = report("hostile", trails=(odd,), created=math.inf)
    assert read(made)["trails"][0]["points"] == [[1, None, None, None]]
    assert plain(to_json(made)) == to_json(made)
    assert "\x1b[31mred" in read(made)["sentence"]


def test_a_long_trail_is_thinned_and_keeps_its_end(report):
    points = tuple((n, 0.1, 0.0, 0.2) for n in range(1, 10_001))
    made = to_dict(report(trails=(IntervalTrail("m", points),)))
    (trail,) = made["trails"]
    assert len(trail["points"]) == MOST_POINTS
    assert trail["points"][-1][0] == 10_000
    assert max(len(each["curve"]) for each in made["latency"]) == MOST_POINTS


def test_a_comparison_without_values_is_null_throughout(report):
    made = report()
    c = replace(made.primary, a=Estimate(None), b=Estimate(None), difference=Estimate(None), noise=None)
    shown = to_dict(replace(made, primary=c))["primary"]
    assert {shown[name] for name in ("a", "b", "a_low", "b_high", "difference", "low", "high", "noise")} == {None}


def test_a_ramp_matches_the_schema(report):
    change = RampChangeShown(1.0, "advanced", 0.1, "controller", "everything holds", "p")
    made = read(report(ramp=RampHistory("ramp", 1, (0.1, 1.0), 0.1, False, (change,), ())))
    jsonschema_rs.validator_for(schema()).validate(made)
    assert made["ramp"]["changes"][0]["share"] == 0.1
    assert not jsonschema_rs.validator_for(schema()).is_valid({**made, "ramp": {**made["ramp"], "state": "odd"}})
