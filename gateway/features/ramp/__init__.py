"""Ramps: steps, evidence, the decision and webhooks."""

from __future__ import annotations

from gateway.features.manifest import AdminPaths, ConsumerTask, JsonOutput, Manifest

MANIFEST = Manifest(
    name="ramp",
    hooks="gateway.features.ramp.metrics:ramp_hooks",
    after_step=("gateway.features.ramp.work:ramps_after_step",),
    outputs=(
        JsonOutput("ab gate", "gateway.features.ramp.gate:RampGateOutput"),
        JsonOutput("ab history", admin="ramp_change", listed=True),
    ),
    operations=(AdminPaths("gateway.features.ramp.operations:OPERATIONS", 20),),
    tasks=(ConsumerTask("webhooks", "gateway.features.ramp.webhooks:webhooks_task"),),
    notices=("gateway.features.ramp.notice_source:RampNotices",),
    templates=True,
)
