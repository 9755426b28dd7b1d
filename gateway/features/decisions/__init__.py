"""Decisions: whether a probability is true on people's labels, and thresholds from which on nobody needs to look."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="decisions",
    hooks="gateway.features.decisions.metrics:decision_hooks",
    verbs=(Verb("decisions", "gateway.features.decisions.cli:verbs", 118, "Decide"),),
    outputs=(
        JsonOutput("decisions probe", "gateway.features.decisions.probe.report:ReadingProbeOutput"),
        JsonOutput("decisions plan", "gateway.features.decisions.report:PlanOutput"),
        JsonOutput("decisions certify", "gateway.features.decisions.report:CertificateOutput"),
        JsonOutput("decisions certificates", "gateway.features.decisions.report:CertificateOutput", listed=True),
    ),
    pages=(ConsolePage("gateway.features.decisions.page:PAGE", 45, "Decide"),),
    templates=True,
)
