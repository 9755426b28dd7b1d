"""The string under a field of a section is its public documentation; here it is read from the source, on demand.

Pydantic's `use_attribute_docstrings` would read it whenever a program starts: it parses each section once more, which
took a tenth of the start of `gateway serve` (0.08 s). Only `gateway schema`, the description of the admin API and
docs/configuration.py need it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """By field, inherited ones included; a field without a string under it is left out."""
    sections = [each for each in reversed(model.__mro__) if issubclass(each, BaseModel) and each is not BaseModel]
    found: dict[str, str] = {}
    for each in sections:
        found |= _module_docs(each.__module__).get(each.__name__, {})
    return found


@functools.cache
def _module_docs(name: str) -> dict[str, dict[str, str]]:
    """By class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {each.name: _class_docs(each) for each in tree.body if isinstance(each, ast.ClassDef)}


def _class_docs(section: ast.ClassDef) -> dict[str, str]:
    found = {}
    for field, doc in zip(section.body, section.body[1:], strict=False):
        match field, doc:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found


class SectionSchema(GenerateJsonSchema):
    """The strings under the fields are descriptions; titles, which only repeat names, are left out."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> dict[str, Any]:
        made = super().model_schema(schema)
        docs = field_docs(schema["cls"])
        for name, each in made.get("properties", {}).items():
            if name in docs:
                each.setdefault("description", docs[name])
        return made
