"""Writes the tables of what guards judge in docs/guards.md: `python docs/guard_coverage.py`.

They come from gateway.proxy.guards.coverage. The text outside the marks is written by hand. A test fails when the page
is not what this makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.proxy.app import ROUTES
from gateway.proxy.guards.coverage import BY_ID, ENDPOINTS, FORWARDED, MEMBERS, STRUCTURE, Coverage, Side

PAGE = Path(__file__).with_name("guards.md")
BEGIN = "<!-- docs/guard_coverage.py writes what follows -->"
END = "<!-- docs/guard_coverage.py wrote what is above -->"
_SIDES: dict[Coverage, tuple[str, str]] = {
    "judged": ("judged", "judged"),
    "request judged": ("judged", "not judged: no text of a model"),
    "refused": ("refused", "refused"),
    "not judged": ("not judged", "not judged"),
}
"""Request and answer, by coverage."""
_NAMES: dict[Side, str] = {"request": "request", "answer": "plain answer", "stream": "events of a stream"}


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{_endpoints()}\n\n{_members()}\n\n{_structure()}\n\n{END}{tail}"


def _endpoints() -> str:
    rows = []
    for coverage, (request, answer) in _SIDES.items():
        paths = sorted({path.decode() for path, endpoint in ROUTES.items() if ENDPOINTS[endpoint.api] == coverage})
        by_id = {"judged": "see below", "refused": "refused"}.get(coverage, "–")
        named = ", ".join(f"`{path.replace('{model}', 'MODEL')}`" for path in paths)
        rows.append(f"| {named} | {request} | {answer} | {answer} | {by_id} |")
    known = ", ".join(sorted(name.decode() for name in FORWARDED))
    row = f"| `passthrough` below `/v1/` and `/v1beta/`: {known} |"
    rows.append(row + " not judged |" * 4)
    rows.append("| `passthrough`: all other paths | refused | refused | refused | refused |")
    table = ["| path | request | plain answer | stream | by id |", "|---|---|---|---|---|", *rows]
    return "\n".join([*table, "", "| stored or later answer | |", "|---|---|", *_stored()])


def _stored() -> Iterator[str]:
    yield from (f"| {name} | {what} |" for name, what in BY_ID.items())


def _members() -> str:
    rows = ["| API | part | judged | refused | not judged |", "|---|---|---|---|---|"]
    for (api, side), known in MEMBERS.items():
        cells = (_names(known.judged), _names(known.refused), _names(known.not_judged))
        rows.append(f"| {api} | {_NAMES[side]} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _structure() -> str:
    forms: dict[str, list[str]] = {}
    for name, form in STRUCTURE.items():
        forms.setdefault(form.pattern, []).append(name)
    rows = ["| member, at any depth | not judged if its whole value is |", "|---|---|"]
    rows += [f"| {_names(names)} | {_form(names[0])} |" for names in forms.values()]
    return "\n".join(rows)


def _form(name: str) -> str:
    return {
        "role": "a role that the APIs have",
        "type": "lower-case words with `_`, `-`, `.` or `/` between them, and a short number or a date behind",
        "signature": "64 or more characters of base64 or base64url",
        "data": "64 or more characters of base64",
        "id": "a random id: a UUID, or 20 to 64 letters and digits, with or without a prefix of the APIs (also "
        "if the name ends in `_id`)",
        "obfuscation": "up to 64 letters and digits",
    }[name]


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "–"


if __name__ == "__main__":
    main()
