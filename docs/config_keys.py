"""Counts the keys of gateway.yaml by section, and the uses of each: `python docs/config_keys.py [SECTION]`.

A use is a mention in a test, a page, or a file of deploy/ and bench/, apart from the generated reference. A name that
several sections have is counted for each of them, so that a count is never too low.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from configuration import sections  # noqa: E402 - the path is set above

from gateway.config.config import Config  # noqa: E402
from gateway.config.deprecations import deprecated_keys  # noqa: E402
from gateway.config.schema import key_of  # noqa: E402

_GENERATED = {"configuration.md", "config_keys.py"}
_READ = {".py", ".md", ".yaml", ".yml", ".sh", ".toml"}


def keys() -> Iterator[tuple[str, str, bool]]:
    """Every key with its section and whether it is deprecated; each section once, by the first path to it."""
    seen = set()
    for path, model in sections("", Config):
        if model not in seen:
            seen.add(model)
            old = deprecated_keys(model)
            yield from ((path, key_of(name, model), key_of(name, model) in old) for name in model.model_fields)


def uses() -> Counter[str]:
    """Files that mention each word."""
    found = Counter[str]()
    files = [ROOT / "README.md", *(f for d in ("tests", "docs", "deploy", "bench") for f in (ROOT / d).rglob("*"))]
    for file in files:
        if file.suffix in _READ and file.name not in _GENERATED and "helm" not in file.parts:
            found.update(set(re.findall(r"\w+", file.read_text(encoding="utf-8"))))
    return found


def main() -> None:
    chosen, counted = sys.argv[1:], uses()
    rows = [row for row in keys() if not chosen or row[0].startswith(chosen[0])]
    left = Counter(path.partition(".")[0].removesuffix("[]") or "the file" for path, _, old in rows if not old)
    for path, key, old in sorted(rows, key=lambda row: counted[row[1]]):
        if old or chosen:
            print(f"{counted[key]:4} files  {path}.{key}{'  deprecated' if old else ''}")  # noqa: T201 - a script
    for section, n in left.most_common():
        print(f"{n:4} left   {section}")  # noqa: T201
    deprecated = sum(old for _, _, old in rows)
    print(f"{len(rows)} keys, {deprecated} deprecated, {len(rows) - deprecated} left")  # noqa: T201


if __name__ == "__main__":
    main()
