"""The documentation as a site: its navigation comes from docs/README.md. `make docs` builds it."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
CONF = runpy.run_path(str(DOCS / "conf.py"))


def test_every_list_becomes_a_section_of_the_navigation() -> None:
    page = "## Run it\n\n- [Deploy](deploy.md): units\n- [The store](store.md): rows\n\n## Notes\n\nNo list.\n"
    assert CONF["navigation"](page) == "\n```{toctree}\n:hidden:\n:caption: Run it\n\ndeploy\nstore\n```\n"


def test_every_page_is_reached_from_the_navigation() -> None:
    reached = set(CONF["_ENTRY"].findall((DOCS / "README.md").read_text()))
    reached |= {f"adr/{name}" for name in CONF["_ENTRY"].findall((DOCS / "adr" / "README.md").read_text())}
    shown = [
        page for page in DOCS.rglob("*.md") if not page.read_text().startswith("---\norphan: true\n")
    ]  # old addresses
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in shown}
    assert pages - reached == {"README"}


def test_programs_find_every_page_in_llms_txt() -> None:
    text = CONF["llms_txt"]((DOCS / "README.md").read_text())
    assert text.startswith("# Assay Gateway: documentation\n\n> An OpenAI-compatible gateway ")
    assert "\n## Start here\n\n- [Quick start](quickstart.md): " in text
