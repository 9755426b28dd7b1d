"""The predictor of a judge's scores: training, use, drift, and means that it guides."""

from __future__ import annotations

from gateway.core.extras import Extra
from gateway.features.manifest import ConsolePage, ConsumerTask, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="learned",
    hooks="gateway.features.learned.work:learning_hooks",
    verbs=(Verb("learn", "gateway.features.learned.cli:verbs", 120, "Decide"),),
    outputs=(
        JsonOutput("learn status", "gateway.features.learned.report:LearnStatusOutput"),
        JsonOutput("learn train", "gateway.features.learned.report:TrainingOutput"),
        JsonOutput("learn explain", "gateway.features.learned.report:ImportancesOutput", when="without --id"),
        JsonOutput("learn explain", "gateway.features.learned.report:ExplanationOutput", when="with --id"),
        JsonOutput("learn accept", "gateway.features.learned.report:ForgottenOutput", listed=True),
    ),
    pages=(ConsolePage("gateway.features.learned.page:PAGE", 50, "Decide"),),
    extras=(
        Extra("embedding", "tokenizers and threadpoolctl", ("tokenizers", "threadpoolctl"), "predictor.embedding"),
    ),
    templates=True,
    tasks=(ConsumerTask("output tokens", "gateway.features.learned.work:output_tokens_task"),),
)
