"""A secret of the deployment is made once, and never replaced."""

from __future__ import annotations

from typing import Any

from gateway.store.secrets import DRAWS, deployment_secret


def test_the_first_value_of_a_name_stays(store: Any) -> None:
    assert store.run(lambda c: deployment_secret(c, DRAWS, b"\x01" * 32)) == b"\x01" * 32
    assert store.run(lambda c: deployment_secret(c, DRAWS, b"\x02" * 32)) == b"\x01" * 32
    assert store.run(lambda c: deployment_secret(c, "another", b"\x03" * 32)) == b"\x03" * 32
