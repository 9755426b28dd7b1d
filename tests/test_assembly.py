"""The name under which plug-ins first imported Completion keeps working."""

from __future__ import annotations

from gateway import scorers
from gateway.assembly import Completion


def test_the_old_import_is_the_same_class():
    assert Completion is scorers.Completion
