"""Ramps: steps, evidence, the decision and webhooks."""

from __future__ import annotations

from gateway.features.manifest import AdminPaths, ConsumerTask, Manifest

MANIFEST = Manifest(
    name="ramp",
    operations=(AdminPaths("gateway.features.ramp.operations:OPERATIONS", 20),),
    tasks=(ConsumerTask("webhooks", "gateway.features.ramp.webhooks:webhooks_task"),),
)
