"""The mistakes of the section `guards` in what it names of other sections."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gateway.config.checks.partial import in_each, numbered
from gateway.config.checks.references import key_names
from gateway.config.config import Config
from gateway.config.guards import GUARD_RULES, GuardConfig
from gateway.core.did_you_mean import did_you_mean
from gateway.core.wildcards import STAR


def guard_mistakes(config: Config) -> Iterator[str]:
    yield from in_each(config, "guards", _scorer_mistakes, _caller_mistakes, _model_mistakes)


def _scorer_mistakes(at: str, guard: GuardConfig, config: Config) -> Iterator[str]:
    section = guard.section
    if section is not None and section not in config.scorers:
        close = did_you_mean(section, [*GUARD_RULES, *config.scorers])
        hint = close or f"; a rule ({', '.join(sorted(GUARD_RULES))}) or a section of `scorers`"
        yield f'{at}.scorer: no rule or scorer "{guard.scorer}"{hint}'
    if guard.scorer == "topics" and not config.evals.base_url:
        yield (
            f"{at}: it calls a model through the gateway; set `evals: {{base_url: …, api_key: …}}`, with a key that "
            "has `sample: never`"
        )


def _caller_mistakes(at: str, guard: GuardConfig, config: Config) -> Iterator[str]:
    later = config.model_fields_set & {"admin", "jwt"}  # sections whose callers and teams become known later
    if not later:
        yield from _unknown(f"{at}.keys", guard.keys, key_names(config))
    if "admin" not in later:
        yield from _unknown(f"{at}.teams", guard.teams, config.teams)


def _model_mistakes(at: str, guard: GuardConfig, config: Config) -> Iterator[str]:
    yield from _unknown(f"{at}.models", guard.models, config.models)
    model = guard.topics and guard.topics.model
    if model and model not in config.models and not any(STAR in alias for alias in config.models):
        yield f'{at}.topics.model: no model "{model}"{did_you_mean(model, config.models)}'


def _unknown(at: str, names: Collection[str] | None, known: Collection[str]) -> Iterator[str]:
    for i, name in numbered(names or ()):
        if name not in known:
            kind = at.rpartition(".")[2].removesuffix("s")
            yield f'{at}[{i}]: no {kind} "{name}"{did_you_mean(name, known)}'
