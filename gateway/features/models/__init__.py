"""The models in use: when the model behind a name changed, and what the provider's cache saves."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, ConsumerTask, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="models",
    verbs=(Verb("models", "gateway.features.models.cli:verbs", 48, "Look"),),
    outputs=(JsonOutput("models", "gateway.features.models.report:ModelsOutput"),),
    pages=(ConsolePage("gateway.features.models.page:PAGE", 24),),
    templates=True,
    tasks=(ConsumerTask("model hours", "gateway.features.models.work:model_hours_task"),),
    notices=("gateway.features.models.notice_source:ModelNotices",),
)
