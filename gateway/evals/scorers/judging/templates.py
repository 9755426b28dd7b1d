"""Prompts as files: shipped ones beside this module, or the user's own. Text goes in once and is never read again.

A file is the system message, a line `---`, and the user message; without that line all of it is the user message.
{{name}} stands for a value. Values are put in in one pass, so that a value with {{name}} in it stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from gateway.core.did_you_mean import did_you_mean
from gateway.evals.scorers.judging.fence import fence_rule, fence_texts, random_mark
from gateway.evals.scoring.options import InvalidOptions

_NAME = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_BREAK = re.compile(r"^---[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Template:
    """system: "" for none. digest: 12 hex digits of the file's sha256. names: the values it asks for."""

    system: str
    user: str
    digest: str
    names: frozenset[str]

    def messages(
        self, own: Mapping[str, str], material: Mapping[str, str], verdict: str, draw: Callable[[], str] = random_mark
    ) -> list[dict[str, str]]:
        """A prompt. own: the config's words. material: what others wrote; each is fenced. verdict: how to answer."""
        inside, mark = fence_texts({name: text for name, text in material.items() if name in self.names}, draw)
        values = {**own, **inside}
        user = f"{fence_rule(mark)}\n\n{_filled(self.user, values)}\n\n{verdict}"
        told = [{"role": "user", "content": user}]
        return [{"role": "system", "content": _filled(self.system, values)}, *told] if self.system else told


def load(kind: str, file: str | None, directory: Path, known: Iterable[str], needed: Iterable[str]) -> Template:
    """The template of a kind of judge, or the user's file. known: the values there are; needed: those without which
    nothing would be judged. Raises Mistaken."""
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
        f".template: there is no value {{{{{name}}}}}{did_you_mean(name, known) or '; it may use ' + ', '.join(known)}"
        for name in sorted(template.names - set(known))
    ]
    lines += [f".template: must hold {{{{{name}}}}}" for name in needed if name not in template.names]
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
