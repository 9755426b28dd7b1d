"""Facts that tests of the structure need of a module, read in one pass over its syntax, which is not kept: the syntax
of all modules takes over 300 MB.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.import_graph import imports, walk

_MENTION = re.compile(r"(?<![\w./*{}-])((?:\w+/)*\w+\.py)\b")
_COMMENT_WITH_A_FILE = re.compile(r"#.*\.py\b")
_MANIFEST_ENTRY = re.compile(r"gateway\.[\w.]+:\w+")
_STARTS = {"create_task", "ensure_future"}


@dataclass
class ModuleFacts:
    """The content of one module, as far as tests ask for it."""

    imports: frozenset[str] = frozenset()
    """The dotted names that it imports, within functions and under TYPE_CHECKING too."""
    classes: list[str] = field(default_factory=list)
    calls: set[str] = field(default_factory=set)
    """The last names of what it calls: `b` of `a.b()`."""
    attributes: set[str] = field(default_factory=set)
    """Attributes of names, as `os.environ`."""
    manifest_entries: set[str] = field(default_factory=set)
    """Texts that name an object, as `gateway.a.b:Class`."""
    mentioned_files: set[str] = field(default_factory=set)
    """The Python files that its docstrings, those of fields included, and its comments name."""
    text_collections: list[set[str]] = field(default_factory=list)
    """The texts in each tuple, list and set that has at least two."""
    has_global: bool = False
    drops_tasks: bool = False
    """Whether it starts a task, outside a group, that nothing holds."""


def facts_of(path: Path) -> ModuleFacts:
    text = path.read_text(encoding="utf-8")
    nodes = list(walk(ast.parse(text, str(path))))
    found = ModuleFacts(frozenset(imports(nodes)))
    for node in nodes:
        if (read := _READERS.get(type(node))) is not None:
            read(node, found)
    for comment in _comments(text):
        found.mentioned_files.update(_MENTION.findall(comment))
    return found


def _comments(text: str) -> Iterator[str]:
    """The comments, where one may name a file."""
    if _COMMENT_WITH_A_FILE.search(text):
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        yield from (token.string for token in tokens if token.type == tokenize.COMMENT)


def _last_name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _class(node: ast.ClassDef, found: ModuleFacts) -> None:
    found.classes.append(node.name)


def _call(node: ast.Call, found: ModuleFacts) -> None:
    found.calls.add(_last_name(node.func))


def _attribute(node: ast.Attribute, found: ModuleFacts) -> None:
    if isinstance(node.value, ast.Name):
        found.attributes.add(f"{node.value.id}.{node.attr}")


def _constant(node: ast.Constant, found: ModuleFacts) -> None:
    if isinstance(node.value, str) and _MANIFEST_ENTRY.fullmatch(node.value):
        found.manifest_entries.add(node.value)


def _expression(node: ast.Expr, found: ModuleFacts) -> None:
    value = node.value
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        found.mentioned_files.update(_MENTION.findall(value.value))
    elif isinstance(value, ast.Call) and _last_name(value.func) in _STARTS:
        found.drops_tasks |= "group" not in ast.unparse(value).lower()


def _collection(node: ast.Tuple | ast.List | ast.Set, found: ModuleFacts) -> None:
    constants = (e.value for e in node.elts if isinstance(e, ast.Constant))
    texts = {value for value in constants if isinstance(value, str)}
    if len(texts) > 1:
        found.text_collections.append(texts)


def _global(_node: ast.Global, found: ModuleFacts) -> None:
    found.has_global = True


_READERS: dict[type[ast.AST], Callable[[Any, ModuleFacts], None]] = {
    ast.ClassDef: _class,
    ast.Call: _call,
    ast.Attribute: _attribute,
    ast.Constant: _constant,
    ast.Expr: _expression,
    ast.Tuple: _collection,
    ast.List: _collection,
    ast.Set: _collection,
    ast.Global: _global,
}
