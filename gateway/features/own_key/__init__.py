"""A key's own page and its operations, for the holder of its secret."""

from __future__ import annotations

from gateway.features.manifest import AdminPaths, ConsolePage, Manifest

MANIFEST = Manifest(
    name="own_key",
    pages=(ConsolePage("gateway.features.own_key.page:PAGE", 65),),
    templates=True,
    operations=(AdminPaths("gateway.features.own_key.operations:OPERATIONS", 40),),
)
