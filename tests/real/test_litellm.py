"""LiteLLM's own router draws again: the shares in fixtures/litellm_shares.json are its, and a gateway keeps them."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fixtures.litellm_draws import differing, gateway_draws

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
PINNED = Path(__file__).parents[1] / "fixtures" / "litellm_shares.json"
DRAWS = Path(__file__).with_name("litellm_draws.py")
MOST = 5.5
"""Standard errors: of 140 fresh comparisons, one exceeds this by chance in fewer than 1 in 100 000 runs."""


@pytest.fixture(scope="module")
def python(stages: Any, journal: Any) -> Path:
    """The interpreter of the installed LiteLLM; skipped, with the reason, where it is missing."""
    folder = Path(stages.REAL / "litellm")
    if not (folder / "installed").exists():
        failed = folder / "failed"
        why = failed.read_text().strip().splitlines()[-1] if failed.exists() else "run `make test-real`"
        journal.notes["litellm"] = f"not installed: {why}"
        pytest.skip(journal.notes["litellm"])
    script = "from importlib.metadata import version; print(version('litellm'))"
    version = subprocess.check_output([folder / "bin" / "python", "-c", script], text=True).strip()
    journal.notes["litellm"] = f"LiteLLM {version}: its router alone"
    return folder / "bin" / "python"


async def test_litellms_router_draws_what_a_gateway_draws(python: Path, journal: Any) -> None:
    shares = json.loads(PINNED.read_text())
    n = shares["draws"]
    command = [str(python), "-W", "ignore", str(DRAWS)]
    done = await asyncio.to_thread(
        subprocess.run, command, input=json.dumps(shares), capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    fresh: list[list[int]] = json.loads(done.stdout)
    wide = 0
    for case, theirs in zip(shares["cases"], fresh, strict=True):
        ours = gateway_draws(case, n, random.Random())
        for counts in (case["drawn"], ours):
            assert differing(counts, theirs, n, MOST) == [], case["name"]
            wide += len(differing(counts, theirs, n, 3.0))
    found = f"{len(fresh)} mixes of weights and strategies, {n} draws of each: same shares; {wide} beyond 3 errors"
    journal.note("litellm", "shares of its router", found)
