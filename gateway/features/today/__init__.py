"""Changes in the last day."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, ConsumerTask, Manifest

MANIFEST = Manifest(
    name="today",
    pages=(ConsolePage("gateway.features.today.page:PAGE", 10),),
    templates=True,
    tasks=(
        ConsumerTask("hour history", "gateway.features.today.work:hour_history_task"),
        ConsumerTask("events", "gateway.features.today.events:events_task"),
    ),
)
