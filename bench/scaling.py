"""The figures at the head of docs/contributing/scaling.md, from a whole run of `make bench`. Pure."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping

NEEDED = ("plain", "stream", "idle", "open", "consumer")


def renewed(page: str, found: Mapping[str, float], date: str, machine: str) -> str:
    """The page with these figures in its first program, and what that then prints. found: of the gateway, by row.

    Raises ValueError where the page has no such program.
    """
    assigned = {
        "PLAIN_US, STREAM_US": f"{found['plain']:.0f}, {found['stream']:.0f}",
        "IDLE_MB, OPEN_MB": f"{found['idle']:.1f}, {found['open']:.1f}",
        "SCORED": f"{found['consumer']:.0f}",
    }
    for names, values in assigned.items():
        page, n = re.subn(rf"^{names} = [\d., ]*\d", f"{names} = {values}", page, count=1, flags=re.MULTILINE)
        if not n:
            raise ValueError(f"the page assigns nothing to {names}")
    page = re.sub(r"run of \d{4}-\d\d-\d\d in", f"run of {date} in", page, count=1)
    page = re.sub(r"an experiment; .*\)\.$", lambda _: f"an experiment; {machine}).", page, count=1, flags=re.MULTILINE)
    block = re.search(r"```python run\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    if block is None:
        raise ValueError("the page has no program with its output")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block[1], "scaling.md", "exec"), {})  # noqa: S102 - the page's own program
    return page[: block.start(2)] + out.getvalue() + page[block.end(2) :]
