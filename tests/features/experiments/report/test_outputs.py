"""The schema of `gateway ab status`; tests/features/experiments/test_cli.py hands real outputs to it."""

from __future__ import annotations

from gateway.features.experiments.report.outputs import report_schema, status_schema
from gateway.verdict.report.as_json import SCHEMA_ID


def test_declared_segments_are_those_of_the_report() -> None:
    found = status_schema()
    candidate = found["$defs"]["CandidateStatusOutput"]["properties"]
    assert candidate["declared"]["$ref"] == f"{SCHEMA_ID}#/properties/declared"
    assert found["$defs"]["Report"] == report_schema()
    assert report_schema()["$id"] == SCHEMA_ID
    assert "declared" in report_schema()["properties"]
