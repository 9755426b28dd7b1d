"""Segments: the values of a request, what a plan freezes of them, and that plans without segments stay as they were."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Target
from gateway.core.plan import Plan, plan_from_json
from gateway.core.segments import (
    CallSegments,
    RequestFacts,
    SegmentDesign,
    language_of,
    named_segment,
    raw_values,
    segment_name,
    segments_from_json,
)

FACTS = RequestFacts("web", "chat", False, 300, {"tools": []})
PLAN = Plan("swap", "chat", Target("a", "m"), (("candidate", Target("b", "m")),), primary="quality", rules=2)


@pytest.mark.parametrize(
    ("prop", "changes", "expected"),
    [
        ("caller", {}, "web"),
        ("api", {}, "chat"),
        ("stream", {"stream": True}, "yes"),
        ("prompt", {}, "under 1 KB"),
        ("prompt", {"size": 16_384}, "over 16 KB"),
        ("tools", {}, "no"),
        ("tools", {"fields": {"tools": ...}}, "yes"),
        ("tools", {"fields": {"functions": [{}]}}, "yes"),
        ("metadata.product", {"fields": {"metadata": {"product": "code"}}}, "code"),
        ("metadata.product", {"fields": {"metadata": {"product": {"deep": 1}}}}, None),
        ("metadata.product", {"fields": {"metadata": ...}}, None),
        ("metadata.product", {"fields": {"metadata": {"product": "x" * 100}}}, "x" * 40),
        ("metadata.product", {"fields": {"metadata": {"product": "a\0b"}}}, "a\ufffdb"),
    ],
)
def test_the_value_of_a_property(prop: str, changes: dict[str, Any], expected: str | None) -> None:
    facts = RequestFacts(**{name: getattr(FACTS, name) for name in FACTS.__slots__} | changes)
    assert raw_values((prop,), facts).get(prop) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of the country that you live in?", "en"),
        ("Wie ist das Wetter in den Bergen, und was soll ich anziehen?", "de"),
        ("Quel est le temps dans les montagnes et que dois-je mettre ?", "fr"),
        ("¿Cuál es la capital de la que hablas, y cómo se llega?", "es"),
        ("Какая погода в горах?", "cyrillic"),
        ("山の天気はどうですか", "ja"),
        ("山里的天气怎么样啊今天", "zh"),
        ("42", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_language_is_guessed_from_the_end_of_the_messages(text: str, expected: str) -> None:
    messages = [{"role": "user", "content": text}]
    assert language_of(orjson.dumps(messages)) == expected
    import json

    assert language_of(json.dumps(messages).encode()) == expected, "with \\u escapes, as Python's json writes it"


@given(st.binary(max_size=400))
def test_any_bytes_have_a_language(tail: bytes) -> None:
    assert language_of(tail)


def test_values_that_are_not_declared_are_one_segment() -> None:
    design = SegmentDesign(("metadata.product", "tools"), frozen=(("metadata.product", ("code", "chat")),))
    assert design.segments == (
        ("metadata.product", "code"),
        ("metadata.product", "chat"),
        ("metadata.product", "other"),
        ("tools", "no"),
        ("tools", "yes"),
    )
    assert design.of({"metadata.product": "mail"}) == {"metadata.product": "other", "tools": "other"}


def test_stated_values_come_before_those_of_the_traffic() -> None:
    design = SegmentDesign(("caller",), values=(("caller", ("a",)),), frozen=(("caller", ("b",)),))
    assert design.declared == {"caller": ("a",)}


def test_a_call_has_the_largest_factor_of_its_segments() -> None:
    design = SegmentDesign(("tools", "stream"), more=(("tools", "yes", 3.0), ("stream", "yes", 2.0)))
    assert design.factor({"tools": "yes", "stream": "yes"}) == 3.0
    assert design.factor({"tools": "no", "stream": "yes"}) == 2.0
    assert design.factor({"tools": "no", "stream": "no"}) == 1.0


def test_a_plan_without_segments_reads_and_hashes_as_before() -> None:
    assert b"segments" not in PLAN.to_json()
    assert PLAN.hash == "1074a2e19aa13612", "stored evidence belongs to this hash"


def test_a_plan_with_segments_survives_json_and_has_a_hash_of_its_own() -> None:
    from dataclasses import replace

    design = SegmentDesign(("tools", "caller"), 0.2, 0.1, 0.0, (("caller", ("a", "b")),), (), (("tools", "yes", 3.5),))
    plan = replace(PLAN, segments=design)
    assert plan_from_json(plan.to_json()) == plan
    assert plan.hash != PLAN.hash
    assert plan.hash != replace(plan, segments=replace(design, margin=0.3)).hash, "its margin is frozen"
    assert plan.same_design(replace(plan, segments=replace(design, frozen=(("tools", ("no",)),), more=())))
    assert not plan.same_design(replace(plan, segments=replace(design, by=("tools",))))


@pytest.mark.parametrize("fields", [{"margin": 0.0}, {"least_share": 0.0}, {"weak_spots": 1.0}, {"unknown": 1}])
def test_a_stored_design_outside_its_domain_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        SegmentDesign.from_fields({**SegmentDesign(("tools",)).fields(), **fields})


def test_names_of_segments_can_be_read_back() -> None:
    assert named_segment(segment_name("metadata.product", "a=b")) == ("metadata.product", "a=b")
    assert named_segment("key=web") == ("caller", "web")


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "no json", '{"values": 1}'])
def test_a_record_without_segments_has_none(text: str | None) -> None:
    assert segments_from_json(text) is None


def test_the_segments_of_a_record_can_be_read_back() -> None:
    made = CallSegments({"tools": "yes"}, draw=1.5)
    assert segments_from_json(made.to_json()) == made
