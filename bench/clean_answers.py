"""Measures how often rules of guards object to texts without secrets: docstrings of the installed Python packages.

    .venv/bin/python bench/clean_answers.py [TEXTS]

The texts are not answers of a model, but prose about programs with examples, numbers, paths and addresses, which anyone
can read again. Each hit is printed, so that it can be judged: some of the texts do hold an address.
"""

from __future__ import annotations

import ast
import random
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from math import sqrt
from pathlib import Path

from gateway.proxy.guards.rules import FormRule, PhraseRule, SpanRule

RULES: dict[str, SpanRule] = {
    "secrets": FormRule(("key",)),
    "personal_data": FormRule(("email", "phone", "card", "iban")),
    "prompt_injection": PhraseRule.packaged(),
}
LEAST, MOST = 200, 6_000
"""Characters of a text."""


def docstrings() -> Iterator[str]:
    warnings.simplefilter("ignore")
    for folder in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_path(folder)).rglob("*.py")):
            if "test" in path.as_posix():
                continue
            try:
                tree = ast.parse(path.read_text("utf-8"))
            except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node)
                    if text and LEAST <= len(text) <= MOST:
                        yield text


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, JASA 22, 1927)."""
    share, half = hits / n, z * sqrt(hits * (n - hits) / n + z * z / 4)
    return (n * share + z * z / 2 - half) / (n + z * z), (n * share + z * z / 2 + half) / (n + z * z)


def main(n: int) -> None:
    found = list(dict.fromkeys(docstrings()))
    texts = random.Random(36).sample(found, min(n, len(found)))
    for name, rule in RULES.items():
        hits = 0
        for text in texts:
            matches = rule.find(text)
            hits += bool(matches)
            for match in matches[:1]:
                line = text[max(0, match.start - 30) : match.end + 10].replace("\n", " ")
                print(f"  {name} {match.rule}: {line[:120]!r}", file=sys.stderr)  # noqa: T201
        low, high = wilson(hits, len(texts))
        print(f"{name}: {hits} of {len(texts)}, {hits / len(texts):.2%} ({low:.2%} to {high:.2%})")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
