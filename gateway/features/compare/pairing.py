"""Scores of several models on the same items: pairs by id, and what was left out or averaged. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gateway.core.errors import CannotRun
from gateway.core.sanitize import plain
from gateway.features.compare.scores import ModelScores, ScoreOptions, examples
from gateway.reports.number_format import counted
from gateway.verdict.items.scores import Columns, PairedScores

_FOLDERS = 4  # above a file, by which files of one name are told apart; lm-eval's are in OUT/MODEL/
FEW_COMMON = 0.9  # with a smaller share of a file's items in all files, a caution is shown above the result


def pair(models: Sequence[ModelScores], columns: Columns, options: ScoreOptions) -> PairedScores:
    """Raises CannotRun if no item is in all files, or if files disagree on the cluster of an item."""
    common = _common(models, columns)
    runs = tuple(tuple(tuple(model.runs[item]) for item in common) for model in models)
    means = tuple(np.array([sum(each) / len(each) for each in model]) for model in runs)
    seen = all(0.0 <= value <= 1.0 for model in runs for each in model for value in each)
    return PairedScores(
        names=_model_names(models),
        columns=columns,
        items=tuple(common),
        clusters=tuple(_clusters(models, columns, common)),
        means=means,
        runs=runs,
        bounds=options.bounds or ((0.0, 1.0) if seen else None),
        stated=options.bounds is not None,
        notes=tuple(_notes(models, columns, common)),
        cautions=tuple(_cautions(models, common)),
    )


def _common(models: Sequence[ModelScores], columns: Columns) -> list[str]:
    first, *others = models
    common = [item for item in first.runs if all(item in other.runs for other in others)]
    if common:
        return common
    starts = "; ".join(f"{model.file.path} has {examples(list(model.runs))}, …" for model in models)
    guessed = " (the column was guessed)" if "id" in columns.guessed else ""
    raise CannotRun(f"no {plain(columns.id)} is in all files{guessed}: {starts}. Name the column of the ids with --id")


def _clusters(models: Sequence[ModelScores], columns: Columns, items: Sequence[str]) -> Iterator[str]:
    """Raises CannotRun."""
    for item in items:
        if columns.cluster is None:
            yield item
            continue
        found = {model.clusters[item]: model for model in models if item in model.clusters}
        if len(found) > 1:
            said = " and ".join(f"{plain(cluster)} in {model.file.path}" for cluster, model in found.items())
            raise CannotRun(f"item {plain(item)} is in cluster {said}; an item has one cluster")
        if not found:
            raise CannotRun(
                f"item {plain(item)} has no {plain(columns.cluster)} in any file; every item needs a cluster"
            )
        yield next(iter(found))


def _model_names(models: Sequence[ModelScores]) -> tuple[str, ...]:
    """A short name of each model: the one that its file states, or the file's; with the folder where two are alike."""
    names = [model.file.model or model.file.path.stem for model in models]
    paths = [model.file.path for model in models]
    depth = min(_FOLDERS, *(len(path.parents) for path in paths))
    folders = ([path.parents[level].name for path in paths] for level in range(depth))
    among = [[f"{name} ({of})" for name, of in zip(names, level, strict=True)] for level in folders if all(level)]
    for found in (names, *among, [path.stem for path in paths], [str(path) for path in paths]):
        if len(set(found)) == len(found):
            return tuple(map(plain, found))
    return tuple(f"{plain(model.file.path.stem)} {number}" for number, model in enumerate(models, 1))


def _notes(models: Sequence[ModelScores], columns: Columns, common: Sequence[str]) -> Iterator[str]:
    guessed = ", ".join(
        f"{plain(getattr(columns, name))} as the {name} (--{name} names another)" for name in columns.guessed
    )
    if guessed:
        yield f"Columns taken: {guessed}."
    known = set(common)
    for model in models:
        yield from map(plain, model.file.notes)
        alone = [item for item in model.runs if item not in known]
        if alone:
            yield (
                f"{model.file.path}: {counted(len(alone), 'item')} of {len(model.runs)} not in every file, left out "
                f"(first: {examples(alone)})."
            )
        if model.dropped:
            yield (
                f"{model.file.path}: {counted(len(model.dropped), 'row')} without a score left out (first: "
                f"{examples(model.dropped)})."
            )
        if model.filled:
            yield (
                f"{model.file.path}: {counted(model.filled, 'row')} without a score counted as the number of --missing."
            )
    yield from _repeats(models)


def _repeats(models: Sequence[ModelScores]) -> Iterator[str]:
    for model in models:
        repeated = model.repeated
        if repeated:
            single = " The other file has one run." if len(models) == 2 and _single(models, model) else ""
            yield (
                f"{model.file.path}: {counted(len(repeated), 'item')} with several rows (first: "
                f"{examples(repeated)}): they "
                f"count as runs of one item, and their mean is compared.{single}"
            )


def _single(models: Sequence[ModelScores], model: ModelScores) -> bool:
    return all(not other.repeated for other in models if other is not model)


def _cautions(models: Sequence[ModelScores], common: Sequence[str]) -> Iterator[str]:
    for model in models:
        if len(common) < FEW_COMMON * len(model.runs):
            share = len(common) / len(model.runs)
            yield (
                f"Only {share:.0%} of the items of {model.file.path} are in every file: the verdict is about "
                f"{counted(len(common), 'item')}, which may be easier or harder than the rest."
            )
        if model.dropped:
            yield (
                f"{counted(len(model.dropped), 'row')} of {model.file.path} had no score and were dropped: if "
                "a model fails on "
                "hard items, this flatters it. Compare with --missing 0."
            )
