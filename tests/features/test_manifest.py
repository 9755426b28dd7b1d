"""The features' manifests: every entry exists, and reading them loads no feature."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_group

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.console.api import AdminOperations
from gateway.console.frame import Page
from gateway.features import FEATURES
from gateway.features.manifest import Manifest, load
from gateway.features.task import TaskContext
from gateway.scoring.registry import BuiltScorers

FOLDER = Path(__file__).parents[2] / "gateway" / "features"


def test_every_folder_of_features_is_in_the_list() -> None:
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert {feature.name for feature in FEATURES} == folders
    assert len(FEATURES) == len(folders)


def test_templates_are_declared_where_there_are_some() -> None:
    assert {f.name for f in FEATURES if f.templates} == {path.parent.name for path in FOLDER.glob("*/templates")}


def test_places_are_unique_so_that_the_order_is_determined() -> None:
    verbs = [verb for feature in FEATURES for verb in feature.verbs]
    pages = [page for feature in FEATURES for page in feature.pages]
    operations = [found for feature in FEATURES for found in feature.operations]
    for additions in (verbs, pages, operations):
        places = [addition.place for addition in additions]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_entry_of_a_manifest_is_of_its_kind(feature: Manifest) -> None:
    for verb in feature.verbs:
        group = typer.Typer()
        group.add_typer(load(verb.entry))
        commands: dict[str, Any] = get_group(group).commands
        assert verb.name in commands
    for page in feature.pages:
        assert isinstance(load(page.entry), Page)
    for found in feature.operations:
        assert isinstance(load(found.entry), AdminOperations)
    checks = [] if feature.check is None else [feature.check.entry]
    hooks = (*feature.after_step, *filter(None, [feature.hooks]))
    for entry in (*(task.entry for task in feature.tasks), *feature.notices, *checks, *hooks):
        assert callable(load(entry))
    if feature.check is not None and feature.check.section:
        assert feature.check.section in Config.model_fields


def test_every_verb_of_a_feature_is_declared() -> None:
    for entry in {verb.entry for feature in FEATURES for verb in feature.verbs}:
        group = typer.Typer()
        group.add_typer(load(entry))
        declared = {verb.name for feature in FEATURES for verb in feature.verbs if verb.entry == entry}
        assert set(get_group(group).commands) == declared


async def test_a_task_runs_only_where_the_config_needs_it() -> None:
    config = parse("open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n")
    absent: Any = None
    context = TaskContext(config, absent, absent, absent, BuiltScorers({}, {}), absent, "consumer")
    made = {task.name: load(task.entry)(context) for feature in FEATURES for task in feature.tasks}
    assert [name for name, work in made.items() if work is not None] == [
        "model hours",
        "model watch",
        "hour history",
        "events",
    ]


def loaded_by(program: str) -> set[str]:
    """Modules of features that a program loads, without the manifests."""
    program += "\nimport sys; print(*(n for n in sys.modules if n.startswith('gateway.features.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    manifests = {f"gateway.features.{name}" for name in ("manifest", *(feature.name for feature in FEATURES))}
    return set(done.stdout.splitlines()[-1].split()) - manifests


RUN = "import sys; from gateway.cli import app; sys.argv = ['gateway', *{}]\ntry: app()\nexcept SystemExit: print()"


def test_the_help_loads_only_the_modules_of_verbs() -> None:
    verbs = {verb.entry.partition(":")[0] for feature in FEATURES for verb in feature.verbs}
    loaded = loaded_by(RUN.format(["help", "all"]))
    assert verbs <= loaded
    first = {verb.entry.partition(":")[0] for f in FEATURES for verb in f.verbs if verb.on_first_screen}
    assert verbs & loaded_by(RUN.format(["--help"])) == first
    assert {name for name in loaded if ".cli" not in name and "_cli" not in name} == set()


@pytest.mark.parametrize("words", [["version"], ["serve", "--help"], ["evaluate", "--help"]], ids=" ".join)
def test_a_verb_of_no_feature_loads_none(words: list[str]) -> None:
    assert loaded_by(RUN.format(words)) == set()
