"""Elements as functions. Whatever is no Markup is escaped, so that no text from the store can become markup.

Formatting or adding Markup gives a plain str again, which is escaped when it is used: a mistake shows, and opens
nothing. Control characters and the marks that turn text around are left out.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from gateway.core.sanitize import plain


class Markup(str):
    """Text that is HTML already. Made only here, and of files of this package."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | Iterable[Child] | None"
Attribute: TypeAlias = "str | float | bool | None"
_VOID = frozenset({"meta", "br", "hr"})


def escape(text: str) -> Markup:
    """Safe between tags and within quotes."""
    return Markup(html.escape(plain(text), quote=True))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """<name attribute="…">children</name>. Of an attribute's name a last _ is dropped, others become hyphens (class_,
    aria_label). True: the name alone; False, None: left out. Numbers are drawn to a hundredth."""
    opened = f"<{name}{''.join(map(_attribute, attributes, attributes.values()))}>"
    return Markup(opened if name in _VOID else f"{opened}{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    return Markup("".join(map(_child, children)))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int):
        return escape(str(child))
    return joined(*child)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    shown = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {shown}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {shown}="{escape(text)}"'
