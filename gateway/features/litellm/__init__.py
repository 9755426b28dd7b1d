"""The move from LiteLLM: its config becomes a gateway.yaml, and its database becomes keys, teams and budgets."""

from __future__ import annotations

from gateway.features.manifest import Manifest, Verb

MANIFEST = Manifest(
    name="litellm",
    verbs=(Verb("import", "gateway.features.litellm.cli:verbs", 170, "Run"),),
)
