"""The predictor of a judge's scores: training, use, drift, and means that it guides."""

from __future__ import annotations

from gateway.core.extras import Extra
from gateway.features.manifest import ConsolePage, ConsumerTask, Manifest, Verb

MANIFEST = Manifest(
    name="learned",
    verbs=(Verb("learn", "gateway.features.learned.cli:verbs", 120),),
    pages=(ConsolePage("gateway.features.learned.page:PAGE", 50),),
    extras=(
        Extra("embedding", "tokenizers and threadpoolctl", ("tokenizers", "threadpoolctl"), "predictor.embedding"),
    ),
    templates=True,
    tasks=(ConsumerTask("output tokens", "gateway.features.learned.work:output_tokens_task"),),
)
