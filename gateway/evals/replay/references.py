"""A model's answers as the right ones: the dataset again, with what it says as every row's reference."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from gateway.evals.replay.datasets import Dataset
from gateway.evals.replay.gateway_choice import GatewayLocation, Say, store_of
from gateway.evals.replay.options import ReplayOptions
from gateway.evals.replay.replay import Watch, carried_out, opened
from gateway.evals.replay.run import ReplayJob
from gateway.evals.store.query import reading
from gateway.evals.store.replays import texts

_CHUNK = 500


async def write_references(
    dataset: Dataset, options: ReplayOptions, place: GatewayLocation, say: Say, watch: Watch
) -> Path:
    """Asks the one target of the options, and writes DATASET.with-references.jsonl beside the dataset.

    Rows that it did not answer keep no reference. Raises what a replay raises.
    """
    async with opened(dataset, options, place, say) as (job, asker):
        job = replace(job, scorers={})
        await carried_out(job, asker, place, watch)
    path = dataset.path.with_name(f"{dataset.path.stem}.with-references.jsonl")
    written = _write(job, store_of(place), path)
    if written < job.rows:
        say(f"{job.rows - written} of {job.rows} rows have no answer, and no reference")
    return path


def _write(job: ReplayJob, store: str, path: Path) -> int:
    """How many rows have a reference. The file is there when it is whole, and not before."""
    [target] = job.design.targets
    part = path.with_suffix(".part")
    known = 0
    with reading(store) as connection, part.open("wb") as file:
        for chunk in job.chunks(_CHUNK):
            answers = texts(connection, job.name, [item.number for item in chunk])
            said = {key.item: text for key, text in answers.items() if key.target == target.name and key.repeat == 1}
            for item in chunk:
                reference = said.get(item.number) or None
                known += reference is not None
                file.write(replace(item, reference=reference).canonical() + b"\n")
    os.replace(part, path)
    return known
