"""The kinds of requests, and the tables that both programs share."""

from __future__ import annotations

import pytest

from gateway.core.output_tokens import FORMAT, KINDS, SIZES, STREAM, TOOLS, kind_of, tables_from_json, tables_to_json


def test_every_kind_is_listed_once():
    edges = [size + step for size in SIZES for step in (-1, 0, 1)]
    given = [{}, {"tools": []}, {"response_format": {}}, {"tools": [], "response_format": {}}]
    found = {kind_of(size, fields, stream) for size in edges for fields in given for stream in (False, True)}
    assert found == set(KINDS)
    assert len(KINDS) == len(set(KINDS))


def test_a_kind_says_what_a_request_is():
    assert kind_of(SIZES[0] - 1, {}, False) == 0
    assert kind_of(SIZES[-1], {"tools": [], "text": {}}, True) == len(SIZES) | TOOLS | FORMAT | STREAM


def test_tables_survive_the_shared_state():
    tables = {"chat": {kind: kind + 1 for kind in KINDS}}
    assert tables_from_json(tables_to_json(tables)) == tables


@pytest.mark.parametrize(
    "text", ["", "[]", '{"chat": 3}', '{"chat": {"0": 5}}', tables_to_json({"chat": dict.fromkeys(KINDS, 0)})]
)
def test_anything_but_a_whole_table_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        tables_from_json(text)
