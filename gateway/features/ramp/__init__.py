"""Ramps: steps, evidence, the decision and webhooks."""

from __future__ import annotations

from gateway.features.manifest import Manifest

MANIFEST = Manifest(
    name="ramp",
)
