"""Operations are collected from the features, and read their parameters alike."""

from __future__ import annotations

import pytest

from gateway.console.api import collected_operations


def test_no_two_operations_have_one_path_and_method() -> None:
    found = [(each.method, each.path) for feature in collected_operations() for each in feature.operations]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/keys?limit=0", "limit: expected a number from 1 to 1000, got '0'"),
        ("/keys?limit=1001", "limit: expected"),
        ("/keys?limit=٣", "limit: expected"),
        ("/audit?limit=x", "limit: expected"),
        ("/keys?deleted=yes", "deleted: expected true or false, got 'yes'"),
    ],
)
async def test_a_parameter_that_cannot_be_read_is_named(console, path, message):
    answer = await console.owner.get(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)
