"""Experiments: plans, pairs, sequences, gates and the verdict."""

from __future__ import annotations

from gateway.features.manifest import ConfigCheck, ConsolePage, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="experiments",
    hooks="gateway.features.experiments.work:experiment_hooks",
    verbs=(
        Verb("report", "gateway.features.experiments.cli:verbs", 60, "Decide", on_first_screen=True),
        Verb("ab", "gateway.features.experiments.cli:verbs", 70, "Decide", on_first_screen=True),
    ),
    outputs=(
        JsonOutput("report", "gateway.verdict.report.as_json:report_schema"),
        JsonOutput("ab list", "gateway.features.experiments.report.outputs:ListedExperimentOutput", listed=True),
        JsonOutput("ab status", "gateway.features.experiments.report.outputs:status_schema", when="with a name"),
        JsonOutput(
            "ab status", "gateway.features.experiments.report.outputs:status_schema", when="without one", listed=True
        ),
        JsonOutput("ab power", "gateway.verdict.report.price:PowerOutput"),
    ),
    pages=(ConsolePage("gateway.features.experiments.page:PAGE", 30, "Decide"),),
    check=ConfigCheck("gateway.features.experiments.start.start_stop:config_findings", section="experiments"),
    templates=True,
    notices=("gateway.features.experiments.notice_source:VerdictNotices",),
)
