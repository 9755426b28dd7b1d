"""Configs with mistakes, most of them made by a seeded generator that changed one to five values of those in the tests,
the documentation and deploy/, and what `gateway check` reported of them while its checks still read the raw file.

After a message has changed on purpose: `PYTHONPATH=$PWD python tests/config/checks/test_recorded_mistakes.py` records
them again, and prints what is different. Lists of known names are left out, since they grow.
"""

from __future__ import annotations

import lzma
import re
import sys
from pathlib import Path
from typing import Any

import orjson

from gateway.config.loading import parse
from gateway.config.made_experiments import MadeExperiments
from gateway.config.routes import RouteFiles
from gateway.core.errors import ConfigError

RECORDED = Path(__file__).with_name("recorded_mistakes.json.xz")
CASES: list[dict[str, Any]] = orjson.loads(lzma.decompress(RECORDED.read_bytes()))


def mistakes_of(case: dict[str, Any]) -> list[str]:
    made = MadeExperiments(Path("f.experiments.yaml"), case.get("made", ""))
    routes = RouteFiles(Path("f.yaml"), {name: text.encode() for name, text in case.get("routes", {}).items()})
    try:
        parse(case["text"], "f.yaml", case.get("environ", {}), made=made, routes=routes)
    except ConfigError as error:
        return [re.sub("; known: .*", "; known: …", mistake.removeprefix("f.yaml: ")) for mistake in error.mistakes]
    return []


def test_mistakes_are_those_that_were_recorded() -> None:
    assert len(CASES) > 1000
    changed = [
        (case["text"], case["mistakes"], found) for case in CASES if (found := mistakes_of(case)) != case["mistakes"]
    ]
    assert not changed, f"{len(changed)} configs, the first:\n{changed[0][0]}\n{changed[0][1]}\n{changed[0][2]}"


if __name__ == "__main__":
    for case in CASES:
        before, case["mistakes"] = case["mistakes"], mistakes_of(case)
        for mistake in sorted(set(before) ^ set(case["mistakes"])):
            sys.stdout.write(f"{'+' if mistake in case['mistakes'] else '-'} {mistake}\n")
    RECORDED.write_bytes(lzma.compress(orjson.dumps(CASES), preset=9 | lzma.PRESET_EXTREME))
