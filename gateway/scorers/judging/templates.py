"""Prompt templates: those in the directory templates/, or the user's own files.

A file is the system message, a line `---`, and the user message; without that line the file is the user message.
{{name}} stands for a value. All values are inserted in one pass, so that {{name}} inside a value is not replaced.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from gateway.core.did_you_mean import did_you_mean
from gateway.scorers.judging.fence import fence_rule, fence_texts, random_mark
from gateway.scoring.options import InvalidOptions

_NAME = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_BREAK = re.compile(r"^---[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template."""

    system: str
    """"" if there is none."""
    user: str
    digest: str
    """12 hex digits of the file's sha256."""
    names: frozenset[str]
    """The values that it uses."""

    def messages(
        self,
        own: Mapping[str, str],
        material: Mapping[str, str],
        instruction: str,
        draw: Callable[[], str] = random_mark,
    ) -> list[dict[str, str]]:
        """A prompt. own: values from the config. material: untrusted, so fenced. instruction: how to answer."""
        inside, mark = fence_texts({name: text for name, text in material.items() if name in self.names}, draw)
        values = {**own, **inside}
        user = f"{fence_rule(mark)}\n\n{_filled(self.user, values)}\n\n{instruction}"
        messages = [{"role": "user", "content": user}]
        if self.system:
            messages.insert(0, {"role": "system", "content": _filled(self.system, values)})
        return messages


def load(kind: str, file: str | None, directory: Path, known: Iterable[str], needed: Iterable[str]) -> Template:
    """The template of a kind of judge, or the user's file.

    known: the values that it may use; needed: those that it must use. Raises InvalidOptions.
    """
    if file is None:
        text = files(__package__).joinpath("templates", f"{kind}.txt").read_text(encoding="utf-8")
    else:
        try:
            text = (directory / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidOptions([f".template: {directory / file} cannot be read: {error}"]) from error
    template = parse(text)
    known = sorted(known)
    lines = [
        f".template: unknown value {{{{{name}}}}}{did_you_mean(name, known) or '; known: ' + ', '.join(known)}"
        for name in sorted(template.names - set(known))
    ]
    lines += [f".template: must contain {{{{{name}}}}}" for name in needed if name not in template.names]
    if lines:
        raise InvalidOptions(lines)
    return template


def parse(text: str) -> Template:
    found = _BREAK.search(text)
    system, user = (text[: found.start()], text[found.end() :]) if found else ("", text)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Template(system.strip(), user.strip(), digest, frozenset(_NAME.findall(text)))


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _NAME.sub(lambda found: values.get(found[1], ""), text)
