"""The features, one folder for each subject: FEATURES has their manifests, in the order in which they may import each
other."""

from __future__ import annotations

from gateway.core.extras import Extra
from gateway.features import (
    calls,
    compare,
    decisions,
    experiments,
    feedback,
    groups,
    guards,
    keys,
    labels,
    learned,
    litellm,
    models,
    notices,
    own_key,
    ramp,
    replay,
    retirement,
    route,
    runs,
    status,
    today,
    traces,
    usage,
)
from gateway.features.manifest import Manifest

FEATURES: tuple[Manifest, ...] = (
    calls.MANIFEST,
    usage.MANIFEST,
    keys.MANIFEST,
    own_key.MANIFEST,
    litellm.MANIFEST,
    notices.MANIFEST,
    feedback.MANIFEST,
    runs.MANIFEST,
    labels.MANIFEST,
    learned.MANIFEST,
    decisions.MANIFEST,
    experiments.MANIFEST,
    ramp.MANIFEST,
    guards.MANIFEST,
    replay.MANIFEST,
    compare.MANIFEST,
    retirement.MANIFEST,
    route.MANIFEST,
    traces.MANIFEST,
    groups.MANIFEST,
    models.MANIFEST,
    today.MANIFEST,
    status.MANIFEST,
)


def all_extras() -> tuple[Extra, ...]:
    """The extras that sections of the features need."""
    return tuple(extra for feature in FEATURES for extra in feature.extras)
