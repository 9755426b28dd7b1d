"""docs/statistics.md names every estimator, and otherwise only what the code of experiments or the config has."""

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import gateway.statistics
from gateway.config.experiments import Experiment
from gateway.config.upstreams import TargetRef
from gateway.core.plan import Mode
from gateway.reports.model import Comparison
from gateway.store.tables import exchanges

DOCS = Path(__file__).parents[2] / "docs" / "statistics.md"
ROOM = Path(gateway.statistics.__file__).parent
FOLDERS = ("verdict", "ramps", "features/experiments", "features/labels", "features/ramp")
EXPERIMENTS = [ROOM.parent / name for name in FOLDERS]
NO_ESTIMATORS = {"domains", "special", "state", "moments"}  # arguments, functions of numbers, saving, sums


def defined() -> set[str]:
    return {
        node.name
        for path in ROOM.glob("*.py")
        if path.stem not in NO_ESTIMATORS
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }


def of_experiments() -> set[str]:
    """Modules and functions, and words such as those for gates and verdicts."""
    paths = [path for folder in EXPERIMENTS for path in folder.rglob("*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {path.stem for path in paths} | functions | words


def of_the_product() -> set[str]:
    """Keys of an experiment in the config, members of its report, and columns of an exchange."""
    keys = {*Experiment.model_fields, *TargetRef.model_fields}
    return keys | {field.name for field in fields(Comparison)} | set(exchanges.c.keys()) | set(get_args(Mode))


def test_every_name_in_the_docs_is_there() -> None:
    files = {path.stem for path in ROOM.glob("*.py")} | of_experiments() | of_the_product()
    named = {word.partition(".")[0] for word in re.findall(r"`([A-Za-z_]+(?:\.[a-z_]+)?)`", DOCS.read_text())}
    assert named - {"ValueError", "math"} <= defined() | files | {"dump", "load"}


def test_every_estimator_with_a_source_is_in_the_docs() -> None:
    text = DOCS.read_text()
    sourced = {
        node.name
        for path in ROOM.glob("*.py")
        if path.stem not in NO_ESTIMATORS
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and "Source:" in (ast.get_docstring(node) or "")
    }
    inner = {"log_gains", "sum_width"}  # steps of BettingMean and AsymptoticMean
    assert {name for name in sourced - inner if f"`{name}`" not in text} == set()
