"""Writes the reference in docs/statistics-api.md from the docstrings of gateway.statistics.

    python docs/statistics_api.py

The text above MARK is written by hand. A test runs its examples, and fails when the rest is not what this makes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gateway import statistics
from gateway.core.field_docs import field_docs

PAGE = Path(__file__).with_name("statistics-api.md")
MARK = "<!-- docs/statistics_api.py writes what follows -->"
BAR = "\\|"  # in a table
GROUPS = {
    "Two models on the same items, one look": (
        "score_difference", "few_differences", "ScoreDifference", "paired_difference", "PairedDifference", "mean_error",
        "MeanWithError", "mcnemar_exact", "wilson", "variance_split", "VarianceSplit",
    ),
    "Confidence sequences: look as often as you like": (
        "HybridMean", "planned_pairs", "GuardedMean", "AsymptoticMean", "EmpiricalBernstein", "BettingMean",
        "RareDifference", "bernoulli_interval", "quantile_ranks",
    ),
    "Tests that may be stopped at any time, and several tests": (
        "BettingTest", "SequentialRatio", "e_bh", "benjamini_hochberg", "usual_range", "ChangeDetector",
    ),
    "Means of sampled traffic": ("weighted_mean", "StratumSums", "WeightedEstimate", "Tuning"),
    "Judges, people and rankings": (
        "corrected_rate", "JudgeAccuracy", "CorrectedRate", "cohen_kappa", "Kappa", "krippendorff_alpha",
        "fit_bradley_terry", "Duels", "Strengths",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class PublicName:
    """A public function or class, as its source reads."""

    name: str
    signature: str
    """Signature with annotations and defaults; for a class, that of its constructor."""
    docstring: str
    fields: tuple[tuple[str, str], ...] = ()
    """The fields of a class that are part of its signature, with the description of each."""
    members: tuple[tuple[str, str], ...] = ()
    """The signatures of the public methods and properties of a class, with the docstring of each."""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    names = {each.name: each for each in public_names()}
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    parts = [f"{head}{MARK}"]
    for title, members in GROUPS.items():
        parts += [f"## {title}", *(_section(names.pop(name)) for name in members)]
    if names:
        raise ValueError(f"{', '.join(names)}: add each to GROUPS in {__file__}")
    return "\n\n".join(parts) + "\n"


def surface() -> list[str]:
    """A line for each public name and member with its signature, in alphabetical order."""
    members = (f"{each.name}.{shown}" for each in public_names() for shown, _ in each.members)
    return sorted([*(each.signature for each in public_names()), *members])


def public_names() -> Iterator[PublicName]:
    for name in statistics.__all__:
        source = _source(statistics.module_of(name))
        [node] = [each for each in ast.parse(source).body if getattr(each, "name", None) == name]
        if isinstance(node, ast.FunctionDef):
            yield PublicName(name, _signature(node), ast.get_docstring(node) or "")
        elif isinstance(node, ast.ClassDef):
            yield _class(node, source)


def _source(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"no module {module}")
    return Path(spec.origin).read_text(encoding="utf-8")


def _signature(node: ast.FunctionDef, name: str | None = None, *, method: bool = False) -> str:
    given = ast.unparse(node.args)
    if method:
        given = re.sub(r"^(self|cls)(, )?", "", given)
    given = re.sub(r"(\w: [^=,]+)=", r"\1 = ", given)
    returns = "" if node.returns is None or name is not None else f" -> {ast.unparse(node.returns).strip(chr(39))}"
    return f"{name or node.name}({given}){returns}"


def _class(node: ast.ClassDef, source: str) -> PublicName:
    methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    fields = list(_fields(node, source))
    signature = (
        _signature(methods["__init__"], node.name, method=True)
        if "__init__" in methods
        else f"{node.name}({', '.join(shown for shown, _ in fields)})"
    )
    members = [_member(each) for name, each in methods.items() if not name.startswith("_")]
    if any(isinstance(base, ast.Name) and base.id == "Stored" for base in node.bases):
        said = dict(_stored())
        members = [(shown, text or said.get(shown, "")) for shown, text in members]
        members += [(shown, text) for shown, text in said.items() if shown.partition("(")[0] not in methods]
    doc = ast.get_docstring(node) or ""
    if "__init__" in methods:
        doc = f"{doc}\n\n{ast.get_docstring(methods['__init__']) or ''}".rstrip()
    return PublicName(node.name, signature, doc, tuple(fields), tuple(members))


def _stored() -> Iterator[tuple[str, str]]:
    """The methods that every sequence has."""
    [stored] = [
        each
        for each in ast.parse(_source("gateway.statistics.stored_state")).body
        if isinstance(each, ast.ClassDef) and each.name == "Stored"
    ]
    yield from (_member(each) for each in stored.body if isinstance(each, ast.FunctionDef))


def _member(node: ast.FunctionDef) -> tuple[str, str]:
    decorators = [ast.unparse(each) for each in node.decorator_list]
    returns = "" if node.returns is None else ast.unparse(node.returns).strip("'")
    shown = f"{node.name}: {returns}" if "property" in decorators else _signature(node, method=True)
    return shown, " ".join((ast.get_docstring(node) or "").split())


def _fields(node: ast.ClassDef, source: str) -> Iterator[tuple[str, str]]:
    """The fields of the constructor: `name: type = default`, and what the source says of each."""
    said = field_docs(source, comments=True).get(node.name, {})
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.target.id[0] != "_":
            default = "" if each.value is None else f" = {_default(each.value)}"
            text = " ".join(said.get(each.target.id, "").split())
            yield f"{each.target.id}: {ast.unparse(each.annotation)}{default}", text


def _default(node: ast.expr) -> str:
    text = ast.unparse(node)
    return "[]" if text == "field(default_factory=list)" else text


def _section(of: PublicName) -> str:
    parts = [f"### `{of.name}`", f"```python\n{_wrapped(of.signature)}\n```", f"```text\n{of.docstring}\n```"]
    rows = [f"| `{shown.replace('|', BAR)}` | {_prose(text).replace('|', BAR)} |" for shown, text in of.fields if text]
    if rows:
        parts.append("\n".join(["| field | |", "|---|---|", *rows]))
    if of.members:
        parts.append("\n".join(f"- `{shown}`" + (f": {_prose(text)}" if text else "") for shown, text in of.members))
    return "\n\n".join(parts)


def _prose(text: str) -> str:
    """Words of a docstring, in which Markdown's marks are signs of a formula."""
    return re.sub(r"([*<])", r"\\\1", text)


def _wrapped(signature: str) -> str:
    if len(signature) <= 110:
        return signature
    head, _, rest = signature.partition("(")
    given, _, tail = rest.rpartition(")")
    parts = re.split(r", (?=\*?\w+(?::| = )|\*$|\*, )", given)
    lines = "\n".join(f"    {part}," for part in parts)
    return f"{head}(\n{lines}\n){tail}"


if __name__ == "__main__":
    main()
