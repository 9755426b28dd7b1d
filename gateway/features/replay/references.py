"""A copy of a dataset in which the answers of one model are the right ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from gateway.features.replay.datasets import Dataset
from gateway.features.replay.gateway_choice import GatewayLocation, Say, store_of
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.replay import Watch, opened, run_job
from gateway.features.replay.rows import texts
from gateway.features.replay.run import ReplayJob
from gateway.store.query import reading

_CHUNK = 500


async def write_references(
    dataset: Dataset, options: ReplayOptions, location: GatewayLocation, say: Say, watch: Watch
) -> Path:
    """Asks the one target of the options, and writes DATASET.with-references.jsonl next to the dataset.

    Rows without an answer have no reference. Raises what replay() raises.
    """
    async with opened(dataset, options, location, say) as (job, workplace):
        job = replace(job, scorers={}, pairs={})
        await run_job(job, workplace, location, watch)
    path = dataset.path.with_name(f"{dataset.path.stem}.with-references.jsonl")
    written = _write(job, store_of(location), path)
    if written < job.rows:
        say(f"{job.rows - written} of {job.rows} rows have no answer and so no reference")
    return path


def _write(job: ReplayJob, store: str, path: Path) -> int:
    """The number of rows with a reference. The file gets its name only when it is complete."""
    [target] = job.design.targets
    part = path.with_suffix(".part")
    known = 0
    with reading(store) as connection, part.open("wb") as file:
        for chunk in job.chunks(_CHUNK):
            answers = texts(connection, job.name, [item.number for item in chunk])
            own = {key.item: text for key, text in answers.items() if (key.target, key.repeat) == (target.name, 1)}
            for item in chunk:
                reference = own.get(item.number) or None
                known += reference is not None
                file.write(replace(item, reference=reference).canonical() + b"\n")
    os.replace(part, path)
    return known
