"""The mistakes of the section `guards` in what it says about other sections, one line each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from gateway.config.guards import GUARD_RULES, OF_SCORERS
from gateway.core.did_you_mean import did_you_mean
from gateway.core.json_values import as_list, as_object
from gateway.core.wildcards import STAR


def guard_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    """raw: the file as it was read, since a section that is not valid must not hide the mistakes of others."""
    known = {
        "keys": {str(as_object(key).get("name")) for key in as_list(raw.get("keys"))},
        "teams": set(as_object(raw.get("teams"))),
        "models": set(as_object(raw.get("models"))),
    }
    others = {"keys": "admin" in raw or "jwt" in raw, "teams": "admin" in raw, "models": False}
    for name, section in as_object(raw.get("guards")).items():
        guard = as_object(section)
        yield from _scorer(name, guard, as_object(raw.get("scorers")))
        for of, names in known.items():
            for i, wanted in enumerate(as_list(guard.get(of))):
                if isinstance(wanted, str) and wanted not in names and not others[of]:
                    yield f'guards.{name}.{of}[{i}]: no {of[:-1]} "{wanted}"{did_you_mean(wanted, names)}'
        model = as_object(guard.get("topics")).get("model")
        if isinstance(model, str) and not _served(model, known["models"]):
            yield f'guards.{name}.topics.model: no model "{model}"{did_you_mean(model, known["models"])}'
        if _calls_models(guard) and not as_object(raw.get("evals")).get("base_url"):
            yield (
                f"guards.{name}: it calls a model through the gateway; set `evals: {{base_url: …, api_key: …}}`, with "
                "a key that has `sample: never`"
            )


def _calls_models(guard: dict[str, Any]) -> bool:
    return guard.get("scorer") == "topics"


def _served(model: str, models: Collection[str]) -> bool:
    return model in models or any(STAR in name for name in models)


def _scorer(name: str, guard: dict[str, Any], scorers: dict[str, Any]) -> Iterator[str]:
    scorer = guard.get("scorer")
    if not isinstance(scorer, str) or scorer in GUARD_RULES:
        return
    section = scorer.removeprefix(OF_SCORERS)
    if section not in scorers:
        close = did_you_mean(section, [*GUARD_RULES, *scorers])
        hint = close or f"; a rule ({', '.join(sorted(GUARD_RULES))}) or a section of `scorers`"
        yield f'guards.{name}.scorer: no rule or scorer "{scorer}"{hint}'
