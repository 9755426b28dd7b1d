"""Feedback on answers: given by users, and read from their next turn."""

from __future__ import annotations

from gateway.features.manifest import Manifest

MANIFEST = Manifest(
    name="feedback",
    hooks="gateway.features.feedback.implicit:feedback_hooks",
)
