"""Reads a page as a browser does, as far as a test needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

VOID = {"meta", "br", "hr"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    within: list[Element | str] = field(default_factory=list)

    def all(self, name: str | None = None, class_: str | None = None) -> list[Element]:
        """Below this one, in order. class_: one of its classes."""
        found = []
        for each in self.within:
            if isinstance(each, Element):
                classes = (each.attributes.get("class") or "").split()
                if name in (None, each.name) and class_ in (None, *classes):
                    found.append(each)
                found += each.all(name, class_)
        return found

    def one(self, name: str | None = None, class_: str | None = None) -> Element:
        (found,) = self.all(name, class_)
        return found

    @property
    def text(self) -> str:
        return "".join(each if isinstance(each, str) else each.text for each in self.within)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute of <{tag}> stands twice"
        made = Element(tag, dict(attrs))
        self.open[-1].within.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].within.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def _read(text: str) -> Element:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].name}> is not closed"
    return reader.open[0]


@pytest.fixture(scope="session")
def read() -> Callable[[str], Element]:
    """The element around all that the text holds. Fails where tags do not match."""
    return _read
