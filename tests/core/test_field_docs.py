"""Documentation of fields, read from the source of their classes."""

from __future__ import annotations

from gateway.core.field_docs import field_docs

SOURCE = '''
class Point:
    """A point."""

    x: float  # across
    y: float = 0.0
    """Upwards;
    0: on the line."""
    z: float  # a comment
    """A docstring wins."""
    name: str

class Other:
    x: int
'''


def test_a_docstring_below_or_a_comment_on_its_line_is_about_a_field() -> None:
    found = field_docs(SOURCE, comments=True)
    assert found == {
        "Point": {"x": "across", "y": "Upwards;\n0: on the line.", "z": "A docstring wins."},
        "Other": {},
    }


def test_comments_are_left_out_unless_they_are_asked_for() -> None:
    assert field_docs(SOURCE)["Point"].keys() == {"y", "z"}
