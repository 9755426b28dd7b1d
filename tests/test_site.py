"""The documentation as a site: its navigation comes from docs/README.md. `make docs` builds it."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

DOCS = Path(__file__).parent.parent / "docs"
CONF = runpy.run_path(str(DOCS / "conf.py"))


def test_every_list_becomes_a_section_of_the_navigation() -> None:
    page = "## Run it\n\n- [Deploy](deploy.md): units\n- [The store](store.md): rows\n\n## Notes\n\nNo list.\n"
    assert CONF["navigation"](page) == "\n```{toctree}\n:hidden:\n:caption: Run it\n\ndeploy\nstore\n```\n"


def test_every_page_is_reached_from_the_navigation() -> None:
    lists = ["README", *CONF["LISTS"]]
    reached = {
        (Path(page).parent / name).as_posix()
        for page in lists
        for name in CONF["_ENTRY"].findall((DOCS / f"{page}.md").read_text())
    }
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    assert pages - reached == {"README"}


def test_earlier_addresses_lead_to_pages_that_exist() -> None:
    moved = CONF["moved"]((DOCS / "contributing" / "moved.md").read_text())
    assert moved["architecture"] == "contributing/architecture"
    assert [now for now in moved.values() if not (DOCS / f"{now}.md").exists()] == []
    assert [earlier for earlier in moved if (DOCS / f"{earlier}.md").exists()] == []


def test_the_site_answers_an_earlier_address(tmp_path: Path) -> None:
    app = SimpleNamespace(srcdir=DOCS, outdir=tmp_path, builder=SimpleNamespace(name="html"))
    CONF["add_earlier_addresses"](app, None)
    assert 'content="0; url=contributing/glossary.html"' in (tmp_path / "glossary.html").read_text()
    assert 'href="../contributing/adr/README.html"' in (tmp_path / "adr" / "README.html").read_text()


def test_programs_find_every_page_in_llms_txt() -> None:
    text = CONF["llms_txt"]((DOCS / "README.md").read_text())
    assert text.startswith("# Assay Gateway: documentation\n\n> An OpenAI-compatible gateway ")
    assert "\n## Start\n\n- [Quick start](quickstart.md): " in text
