"""Documentation of the fields of a module's classes, read from its source: the docstring below each, or the comment on
its line."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping


def field_docs(source: str, *, comments: bool = False) -> dict[str, dict[str, str]]:
    """Texts by class and field. comments: where there is no docstring, the comment on the field's line is the text."""
    said = _comments(source) if comments else {}
    classes = (each for each in ast.parse(source).body if isinstance(each, ast.ClassDef))
    return {each.name: dict(_of_class(each, said)) for each in classes}


def _comments(source: str) -> dict[int, str]:
    """The comments by line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {each.start[0]: each.string.lstrip("# ") for each in tokens if each.type == tokenize.COMMENT}


def _of_class(node: ast.ClassDef, said: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, [*node.body[1:], None], strict=True):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
            case ast.AnnAssign(target=ast.Name(id=name), end_lineno=int(line)), _ if line in said:
                yield name, said[line]
