"""Keys, teams and organizations: the directory, its publication to gateways, and the admin API's operations."""

from __future__ import annotations

from gateway.features.manifest import AdminPaths, ConsolePage, JsonOutput, Manifest, Verb


def _outputs(kind: str, created: str, gone: str) -> tuple[JsonOutput, ...]:
    """created: the schema of a new one. gone: the verb that ends one."""
    return (
        JsonOutput(f"{kind}s create", admin=created),
        JsonOutput(f"{kind}s list", admin=kind, listed=True),
        JsonOutput(f"{kind}s show", admin=kind),
        *(JsonOutput(f"{kind}s {verb}", admin=f"changed_{kind}") for verb in ("change", "disable", "enable", gone)),
    )


MANIFEST = Manifest(
    name="keys",
    verbs=(
        Verb("keys", "gateway.features.keys.cli:verbs", 220, "People and money", on_first_screen=True),
        Verb("teams", "gateway.features.keys.cli:verbs", 221, "People and money", on_first_screen=True),
        Verb("organizations", "gateway.features.keys.cli:verbs", 222, "People and money"),
    ),
    outputs=(
        *_outputs("key", "key_with_secret", "revoke"),
        JsonOutput("keys rotate", admin="key_with_secret"),
        JsonOutput("keys mine", admin="own_key", when="without --rotate"),
        JsonOutput("keys mine", admin="rotated_own_key", when="with --rotate"),
        *_outputs("team", "changed_team", "delete"),
        *_outputs("organization", "changed_organization", "delete"),
    ),
    pages=(ConsolePage("gateway.features.keys.page:PAGE", 60, "People and money"),),
    templates=True,
    operations=(AdminPaths("gateway.features.keys.operations:OPERATIONS", 10),),
)
