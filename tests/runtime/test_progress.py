"""The work that a process has done, as its parent sees it."""

from __future__ import annotations

import os
import sys

import pytest

from gateway.runtime.progress import work_done

pytestmark = [pytest.mark.quick, pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")]


def test_work_grows_with_cpu_time() -> None:
    before = work_done(os.getpid())
    assert before is not None
    while work_done(os.getpid()) == before:
        sum(range(10_000))
    assert (work_done(os.getpid()) or 0) > before


def test_the_work_of_an_ended_process_is_unknown() -> None:
    assert work_done(2**22 + 1) is None
