"""Gates: conditions of any verdict, each red, unknown or green with a reason. Pure; each gate is in a file of its own.

A gate without a finding is not green: it is green only when an interval shows that the effect it looks for is small.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.reports.model import GateResult


def worst(gates: Sequence[GateResult]) -> int:
    """The lowest state; 1 (green) without gates."""
    return min((gate.state for gate in gates), default=1)
