"""Feedback: what users say of an answer, and what their next turn shows."""

from __future__ import annotations

from gateway.features.manifest import Manifest

MANIFEST = Manifest(
    name="feedback",
)
