"""Notices: budgets, verdicts, ramps, retirements, refused configs and unreachable stores, sent to people."""

from __future__ import annotations

from gateway.features.manifest import ConsumerTask, Manifest

MANIFEST = Manifest(
    name="notices",
    tasks=(ConsumerTask("notices", "gateway.features.notices.work:notices_task"),),
)
