"""The scorers that ship with the gateway, one module each, and the names that scorers of other packages import."""

from __future__ import annotations

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.scoring.types import Golden, Rule, Scorer, Subject

__all__ = ["Completion", "Golden", "Rule", "Score", "Scorer", "Skipped", "Subject"]
