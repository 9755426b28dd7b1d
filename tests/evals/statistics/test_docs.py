"""docs/statistics.md names every estimator, and no other."""

import ast
import re
from pathlib import Path

import gateway.evals.statistics

DOCS = Path(__file__).parents[3] / "docs" / "statistics.md"
ROOM = Path(gateway.evals.statistics.__file__).parent
NO_ESTIMATORS = {"domains", "special", "state", "moments"}  # arguments, functions of numbers, saving, sums


def defined() -> set[str]:
    return {
        node.name
        for path in ROOM.glob("*.py")
        if path.stem not in NO_ESTIMATORS
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }


def test_every_name_in_the_docs_is_there() -> None:
    files = {path.stem for path in ROOM.glob("*.py")}
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
