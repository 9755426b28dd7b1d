"""Sphinx: builds the site from the Markdown pages. `make docs` writes it to build/docs; no network is used.

For programs that read, each page lies next to its HTML as Markdown (`teams.html`, `teams.md`), and `llms.txt` lists
them, in the form of https://llmstxt.org. The navigation comes from docs/README.md: each of its headings becomes a
section, each link of a list an entry. The earlier address of a page leads to its new one, by the table of
docs/contributing/moved.md.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

project = "Assay Gateway"
SUMMARY = (
    "An OpenAI-compatible gateway that scores the traffic it carries, and says with an error guarantee whether you can "
    "switch models."
)
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
root_doc = "README"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False
html_static_path: list[str] = []

LISTS = {"contributing/README": "Contributing", "contributing/adr/README": "Decisions"}
"""Pages with a list of further pages, and its caption in the navigation."""
_ENTRY = re.compile(r"^- \[[^\]]*\]\(([\w/.-]+)\.md\)", re.M)


def navigation(page: str) -> str:
    """Hidden tables of contents for the lists of a page, one for each heading that has such a list."""
    parts = re.split(r"^## (.+)$", page, flags=re.M)
    found = zip(parts[1::2], map(_ENTRY.findall, parts[2::2]), strict=True)
    return "".join(_toctree(title, pages) for title, pages in found if pages)


def _toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def add_navigation(app: Any, name: str, source: list[str]) -> None:
    if name == root_doc:
        source[0] += navigation(source[0])
    if name in LISTS:
        source[0] += _toctree(LISTS[name], _ENTRY.findall(source[0]))


def llms_txt(page: str) -> str:
    """The list of the pages: that of docs/README.md, below the project's name and its summary."""
    title, _, sections = page.partition("\n")
    return f"# {project}: {title.removeprefix('# ').lower()}\n\n> {SUMMARY}\n{sections}"


def moved(page: str) -> dict[str, str]:
    """The pages of a table of earlier addresses, by the earlier one. Both are paths below docs/, without a suffix."""
    return dict(re.findall(r"^\| ([\w/-]+) \| \[([\w/-]+)\]", page, re.M))


def add_earlier_addresses(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    for earlier, now in moved((Path(app.srcdir) / "contributing" / "moved.md").read_text()).items():
        page = Path(app.outdir) / f"{earlier}.html"
        page.parent.mkdir(exist_ok=True)
        target = "../" * earlier.count("/") + f"{now}.html"
        page.write_text(
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={target}">'
            f'<title>Moved</title><p>This page is <a href="{target}">{now}</a> now.\n'
        )


def add_markdown(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    source, out = Path(app.srcdir), Path(app.outdir)
    for name in app.env.found_docs:
        shutil.copyfile(source / f"{name}.md", out / f"{name}.md")
    (out / "llms.txt").write_text(llms_txt((source / "README.md").read_text()))


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", add_navigation)
    app.connect("build-finished", add_markdown)
    app.connect("build-finished", add_earlier_addresses)
    return {"parallel_read_safe": True}
