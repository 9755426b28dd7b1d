"""The models in use: when the model behind a name changed, and what the provider's cache saves."""

from __future__ import annotations

from gateway.features.manifest import ConfigCheck, ConsolePage, ConsumerTask, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="models",
    hooks="gateway.features.models.metrics:model_hooks",
    verbs=(Verb("models", "gateway.features.models.cli:verbs", 48, "Look"),),
    outputs=(
        JsonOutput("models", "gateway.features.models.report:ModelsOutput"),
        JsonOutput("models probe", "gateway.features.models.probes.report:ProbeOutput", listed=True),
    ),
    pages=(ConsolePage("gateway.features.models.page:PAGE", 24),),
    templates=True,
    tasks=(
        ConsumerTask("model hours", "gateway.features.models.work:model_hours_task"),
        ConsumerTask("model probes", "gateway.features.models.probes.work:probes_task"),
        ConsumerTask("model watch", "gateway.features.models.watch.watch_keeper:model_watch_task"),
    ),
    notices=("gateway.features.models.notice_source:ModelNotices",),
    check=ConfigCheck("gateway.features.models.probes.check:findings", section="watch"),
)
