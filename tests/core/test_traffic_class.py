from __future__ import annotations

import pytest

from gateway.core.traffic_class import BACKGROUND, CLASSES, NORMAL, PRIORITIES, RANKS

pytestmark = pytest.mark.quick


def test_a_higher_class_is_served_first_here_and_by_vllm() -> None:
    """vLLM serves lower numbers first, and 0 without one."""
    assert sorted(CLASSES, key=RANKS.__getitem__) == sorted(CLASSES, key=PRIORITIES.__getitem__) == list(CLASSES)
    assert (PRIORITIES["normal"], RANKS["normal"]) == (0, NORMAL)
    assert max(RANKS.values()) < BACKGROUND
