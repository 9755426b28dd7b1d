"""People's labels: sampling, blind sheets, agreement, and the calibration of judges."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="labels",
    hooks="gateway.features.labels.metrics:label_hooks",
    verbs=(
        Verb("label", "gateway.features.labels.cli:verbs", 100, "Decide"),
        Verb("judge", "gateway.features.labels.cli:verbs", 110, "Decide"),
    ),
    outputs=(
        JsonOutput("judge calibrate", "gateway.features.labels.report:CalibrationOutput"),
        JsonOutput("judge compare", "gateway.features.labels.judge_comparison.report:JudgeComparisonOutput"),
    ),
    pages=(ConsolePage("gateway.features.labels.page:PAGE", 40, "Decide"),),
    templates=True,
)
