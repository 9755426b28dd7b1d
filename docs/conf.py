"""Sphinx: builds the site from the Markdown pages. `make docs` writes it to build/docs; no network is used.

For programs that read, each page lies next to its HTML as Markdown (`limits.html`, `limits.md`), and `llms.txt` lists
them, in the form of https://llmstxt.org. The navigation comes from docs/README.md: each of its headings becomes a
section, each link of a list an entry.
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
    if name == "adr/README":
        pages = _ENTRY.findall(source[0])
        source[0] += _toctree("Decisions", pages)


def llms_txt(page: str) -> str:
    """The list of the pages: that of docs/README.md, below the project's name and its summary."""
    title, _, sections = page.partition("\n")
    return f"# {project}: {title.removeprefix('# ').lower()}\n\n> {SUMMARY}\n{sections}"


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
    return {"parallel_read_safe": True}
