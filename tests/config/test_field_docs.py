"""The strings under the fields of a section are found in its source."""

from __future__ import annotations

import subprocess
import sys

from gateway.config.field_docs import SectionSchema, field_docs
from gateway.config.types import Section


class Plain(Section):
    """A section."""

    first: int = 1
    """What comes
    first."""
    bare: int = 2


class Derived(Plain):
    """With one of its own, and another text for one that it inherits."""

    bare: int = 3
    """No longer bare."""
    second: str = ""
    """After it."""


def test_texts_are_inherited_and_replaced() -> None:
    assert field_docs(Plain) == {"first": "What comes\nfirst."}
    assert field_docs(Derived) == {"first": "What comes\nfirst.", "bare": "No longer bare.", "second": "After it."}


def test_the_schema_has_them_and_no_titles_of_fields() -> None:
    properties = Derived.model_json_schema(schema_generator=SectionSchema)["properties"]
    assert {name: each["description"] for name, each in properties.items()} == field_docs(Derived)
    assert not [name for name, each in properties.items() if "title" in each]


def test_a_program_that_starts_reads_no_source() -> None:
    """Pydantic parses each section once more where it is asked for the strings at import."""
    program = "import ast; ast.parse = None\nimport gateway.config.config, gateway.features.keys.settings"
    subprocess.run([sys.executable, "-c", program], check=True)
