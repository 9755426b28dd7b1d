"""Finds the mistakes of a gateway.yaml: one line for each mistake, with its path and, where possible, a suggestion.

config.py says what a section may hold; this module words pydantic's errors, and checks what sections must agree on.
The cross-section checks read the raw file, so that one run reports all mistakes, also when a section is not valid.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import combinations
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.config import Config, Timeouts
from gateway.config.derive import asked_refs, prices_of, target_of
from gateway.config.experiments import Experiment
from gateway.config.guard_candidates import guard_candidate_mistakes, guard_target_mistakes
from gateway.config.guard_mistakes import guard_mistakes
from gateway.config.limit_names import limit_mistakes
from gateway.config.predictor import FEEDBACK_TARGET, LABELS_TARGET
from gateway.core.did_you_mean import did_you_mean
from gateway.core.horizon import smallest_margin
from gateway.core.json_values import as_list, as_object
from gateway.core.learned_route import APIS as ROUTED_APIS
from gateway.core.plan import (
    AGAIN,
    BUILT_IN_METRICS,
    CONTROL,
    FAILURE_METRICS,
    FEEDBACK,
    LIKELIHOOD_METRICS,
    NATS_PER_TOKEN,
    REPEAT,
    RUN_METRICS,
    STRATA,
    UNBOUNDED_METRICS,
)
from gateway.core.providers import PROVIDERS
from gateway.core.secret_patterns import is_secret_name
from gateway.core.segments import KEY, METADATA, MOST_PROPERTIES, MOST_SEGMENTS, MOST_VALUES, PROPERTIES
from gateway.core.wildcards import STAR, is_pattern, is_unknown

_EXPECTED: dict[int | str, str] = {
    "sha256": "the SHA-256 of a key: 64 hexadecimal digits in lower case",
    "base_url": "http://… or https://…",
    "url": "redis://…, rediss://… or unix://…",
    "bind": "HOST:PORT",
    "model": "a model's name, in printable ASCII without spaces",
}
_QUOTED = re.compile(r"'([^']*)'")


def validation_mistakes(errors: ValidationError, root: type[BaseModel], known: Sequence[str]) -> list[str]:
    """Pydantic's errors, one line each, after the mistakes already known.

    root: the model of the whole file, for suggestions. Errors that only follow from another mistake are left out: a
    value whose variable is not set, a list that is too short because its only item is wrong.
    """
    details = errors.errors(include_url=False)
    mistakes = list(known)
    for error in details:
        path = _path(error["loc"])
        of_an_item = error["type"] == "too_short" and any(_inside(e["loc"], error["loc"]) for e in details)
        if not of_an_item and not any(m.startswith(f"{path}: $") for m in known):
            mistakes.append(f"{path}: {_message(error, root)}")
    return mistakes


def cross_section_mistakes(raw: dict[str, Any]) -> list[str]:
    """Yields contradictions between sections, and settings that make no sense."""
    if not raw.get("models") or not raw.get("upstreams"):
        return []  # that a section is missing is reported already; all that names it would only follow from that
    return [
        *_upstream_mistakes(raw),
        *_model_mistakes(raw),
        *_default_mistakes(raw),
        *_key_mistakes(raw),
        *_team_mistakes(raw),
        *_jwt_mistakes(raw),
        *_admin_mistakes(raw),
        *_evals_mistakes(raw),
        *_experiment_mistakes(raw),
        *_webhook_mistakes(raw),
        *limit_mistakes(raw),
        *_predictor_mistakes(raw),
        *guard_mistakes(raw),
        *guard_target_mistakes(raw),
    ]


def unpriced_budgets(config: Config) -> list[str]:
    """A budget in USD needs a price for each target that it pays for."""
    prices = prices_of(config)
    mistakes = []
    for name, experiment in config.experiments.items():
        if experiment.budget.usd_per_day is None or not experiment.shadows:
            continue
        paid = [*experiment.arms.values(), *([experiment.control] if experiment.repeat_share else [])]
        for ref in asked_refs(config, paid):
            if prices.of(target_of(ref)) is None:
                target = f"{ref.upstream}/{ref.model}"
                mistakes.append(
                    f"experiments.{name}.budget.usd_per_day: no price is known for {target}; give one under "
                    f'prices.models."{target}" (0 for a model of your own), or use tokens_per_day'
                )
    return mistakes


def _inside(loc: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(loc) > len(other) and loc[: len(other)] == other


def _message(error: ErrorDetails, root: type[BaseModel]) -> str:
    loc = error["loc"]
    if error["type"] == "extra_forbidden" and loc == ("model_list",):
        return "unknown key: this is a file of LiteLLM; translate it with `gateway import litellm FILE`"
    if error["type"] == "extra_forbidden":
        return f"unknown key{did_you_mean(str(loc[-1]), _siblings(root, loc[:-1]))}"
    if error["type"] == "missing":
        return "missing; it is required"
    if error["type"] == "string_pattern_mismatch" and loc[-1] in _EXPECTED:
        return f"expected {_EXPECTED[loc[-1]]}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    value = error["input"]
    if any(is_secret_name(str(step)) for step in loc):
        return message if str(value) not in message else "not valid"
    if isinstance(value, dict | list) or message.endswith(f"got {value!r}") or value is None:
        return message
    literals = _QUOTED.findall(str(error.get("ctx", {}).get("expected"))) if error["type"] == "literal_error" else ()
    shown = str(value) if isinstance(value, date) else repr(value)
    return f"{message}, got {shown}{did_you_mean(str(value), literals)}"


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for step in loc:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _siblings(root: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at a path of the file may have."""
    model: type[BaseModel] | None = root
    after_mapping = False  # the next step is a name that the user chose
    for step in loc:
        if after_mapping or isinstance(step, int):
            after_mapping = False
            continue
        field = model.model_fields.get(step) if model else None
        model = _section_in(field.annotation) if field else None
        after_mapping = field is not None and get_origin(field.annotation) is dict
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section inside `tuple[Section, ...]`, `dict[Name, Section]` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_in(argument)
        if found is not None:
            return found
    return None


def _sections(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """The named sections below a key of the file, without those that are not mappings."""
    value = raw.get(name)
    return {str(k): v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}


def _keys(raw: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The entries of `keys` that are mappings, with their positions."""
    keys = raw.get("keys")
    return [(i, key) for i, key in enumerate(keys) if isinstance(key, dict)] if isinstance(keys, list) else []


def _upstream_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    for name, upstream in _sections(raw, "upstreams").items():
        kind = upstream.get("kind")
        if isinstance(kind, str) and kind not in PROVIDERS:
            hint = did_you_mean(kind, PROVIDERS) or f"; known: {', '.join(PROVIDERS)}"
            yield f'upstreams.{name}.kind: no kind "{kind}"{hint}'
        elif isinstance(kind, str) and PROVIDERS[kind].base_url is None and "base_url" not in upstream:
            yield f"upstreams.{name}.base_url: missing; {kind} has no default address"
        for setting in ("api_key", "base_url"):
            if str(upstream.get(setting, "")).startswith("os.environ/"):
                yield f"upstreams.{name}.{setting}: os.environ/NAME is not read here; write ${{NAME}}"
        yield from _share_mistakes(name, upstream, raw)
        engine = as_object(upstream.get("run")).get("engine")
        if isinstance(kind, str) and isinstance(engine, str) and kind != engine:
            yield f"upstreams.{name}.run.engine: {engine} cannot run an upstream of kind {kind}; both must be the same"
    passthrough = raw.get("passthrough")
    if isinstance(passthrough, str):
        yield from _unknown_upstream("passthrough", passthrough, raw)
    for api, upstream in passthrough.items() if isinstance(passthrough, dict) else ():
        if isinstance(upstream, str):
            yield from _unknown_upstream(f"passthrough.{api}", upstream, raw)
            yield from _other_dialect(api, upstream, raw)


_PASSTHROUGH_KINDS = {"gemini": ("gemini_native",), "bedrock": ("bedrock_converse", "bedrock_anthropic")}


def _other_dialect(api: str, upstream: str, raw: dict[str, Any]) -> Iterator[str]:
    """An upstream that does not have the API whose requests it is to get."""
    kind = as_object(_sections(raw, "upstreams").get(upstream)).get("kind")
    expected = _PASSTHROUGH_KINDS.get(api, ())
    if expected and isinstance(kind, str) and kind not in expected:
        yield f'passthrough.{api}: the upstream "{upstream}" is of kind {kind}; expected {" or ".join(expected)}'


def _share_mistakes(name: str, upstream: dict[str, Any], raw: dict[str, Any]) -> Iterator[str]:
    """Names of teams and keys that the file does not have; those of the admin API are not known here."""
    if "admin" in raw:
        return
    shares = as_object(upstream.get("shares"))
    known = {"teams": _named(raw, "teams"), "keys": [str(key.get("name")) for _, key in _keys(raw)]}
    for kind, names in known.items():
        for each in as_object(shares.get(kind)):
            if each not in names:
                hint = did_you_mean(str(each), names) or f"; add it to `{kind}`"
                yield f'upstreams.{name}.shares.{kind}: no {kind[:-1]} "{each}"{hint}'


def _unknown_upstream(path: str, name: str, raw: dict[str, Any]) -> Iterator[str]:
    known = as_object(raw.get("upstreams"))
    if name not in known:
        yield f'{path}: no upstream "{name}"{did_you_mean(name, known)}'


def _model_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    for alias, model in _sections(raw, "models").items():
        for key in ("targets", "fallback"):
            for i, target in enumerate(as_list(model.get(key))):
                at = f"models.{alias}.{key}[{i}]"
                if isinstance(target, dict) and isinstance(target.get("upstream"), str):
                    yield from _unknown_upstream(f"{at}.upstream", target["upstream"], raw)
                if isinstance(target, dict):
                    yield from _star_mistakes(at, alias, str(target.get("model")))


def _star_mistakes(at: str, alias: str, model: str) -> Iterator[str]:
    if STAR in model and not is_pattern(alias):
        yield f'{at}.model: "{model}" has a star, which stands for what a request names; "{alias}" is one name'
    elif model.count(STAR) > 1:
        yield f'{at}.model: "{model}" has more than one star'


def _default_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    models, defaults = _sections(raw, "models"), raw.get("defaults")
    for api, alias in defaults.items() if isinstance(defaults, dict) else ():
        if is_unknown(str(alias), models) or is_pattern(str(alias)):
            yield f'defaults.{api}: no model "{alias}"{did_you_mean(str(alias), models)}'


def _named(raw: dict[str, Any], name: str) -> list[str]:
    """The names below a key of the file, also of those that have no settings."""
    value = raw.get(name)
    return [str(k) for k in value] if isinstance(value, dict) else []


def _team_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    models, organizations = _sections(raw, "models"), _named(raw, "organizations")
    for name, team in _sections(raw, "teams").items():
        organization = team.get("organization")
        if isinstance(organization, str) and organization not in organizations:
            hint = did_you_mean(organization, organizations) or "; add it to `organizations`"
            yield f'teams.{name}.organization: no organization "{organization}"{hint}'
        yield from _unknown_models(f"teams.{name}", team, models)


def _unknown_models(at: str, entry: dict[str, Any], models: dict[str, Any]) -> Iterator[str]:
    for i, alias in enumerate(as_list(entry.get("models"))):
        if is_unknown(str(alias), models):
            yield f'{at}.models[{i}]: no model "{alias}"{did_you_mean(str(alias), models)}'


def _unknown_team(at: str, entry: dict[str, Any], teams: list[str]) -> Iterator[str]:
    team = entry.get("team")
    if isinstance(team, str) and team not in teams:
        yield f'{at}.team: no team "{team}"{did_you_mean(team, teams) or "; add it to `teams`"}'


def _unknown_person(at: str, entry: dict[str, Any], people: list[str]) -> Iterator[str]:
    person = entry.get("person")
    if isinstance(person, str) and person not in people:
        hint = did_you_mean(person, people) or "; add it to `people`"
        yield f'{at}.person: no person "{person}"{hint}'


def _key_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    models, teams, people = _sections(raw, "models"), _named(raw, "teams"), _named(raw, "people")
    rights: dict[str, dict[str, Any]] = {}
    digests: set[str] = set()
    for i, key in _keys(raw):
        name, digest = key.get("name"), key.get("sha256")  # "": its variable is not set, which is reported
        its = {k: v for k, v in key.items() if k != "sha256"}
        if isinstance(name, str) and rights.setdefault(name, its) != its:
            yield (
                f'keys[{i}].name: another key has the name "{name}" and other settings; while a key is replaced, the '
                "old and the new one may have one name, but then everything but sha256 must agree"
            )
        if isinstance(digest, str) and digest and digest in digests:
            yield f"keys[{i}].sha256: another key has this digest already"
        digests.add(str(digest))
        yield from _unknown_models(f"keys[{i}]", key, models)
        yield from _unknown_team(f"keys[{i}]", key, teams)
        yield from _unknown_person(f"keys[{i}]", key, people)


def _jwt_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    models, teams = _sections(raw, "models"), _named(raw, "teams")
    issuers: dict[str, str] = {}
    for name, issuer in _sections(raw, "jwt").items():
        other = issuers.setdefault(str(issuer.get("issuer")), name)
        if other != name:
            yield f"jwt.{name}.issuer: jwt.{other} has this issuer already; put its callers there"
        for i, caller in enumerate(as_list(issuer.get("callers"))):
            if not isinstance(caller, dict):
                continue
            if "admin" not in raw:
                yield from _unknown_team(f"jwt.{name}.callers[{i}]", caller, teams)
            yield from _unknown_models(f"jwt.{name}.callers[{i}]", caller, models)


def _admin_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    tokens = as_object(raw.get("admin")).get("tokens")
    callers = {key.get("sha256"): key.get("name") for _, key in _keys(raw)}
    names, digests = set[str](), set[str]()
    for i, token in enumerate(as_list(tokens)):
        if not isinstance(token, dict):
            continue
        name, digest = token.get("name"), token.get("sha256")  # "", as of keys
        if isinstance(name, str) and name in names:
            yield f'admin.tokens[{i}].name: another token has the name "{name}"; the audit could not tell them apart'
        if isinstance(digest, str) and digest and digest in digests:
            yield f"admin.tokens[{i}].sha256: another token has this digest already"
        if isinstance(digest, str) and digest and digest in callers:
            yield (
                f'admin.tokens[{i}].sha256: this is also the digest of key "{callers[digest]}", and no caller\'s '
                "key may open the admin API; make another token"
            )
        names.add(str(name))
        digests.add(str(digest))


def _evals_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    """Rejects a key whose traffic is sampled: a judge's calls would be judged, and those calls judged again."""
    api_key = as_object(raw.get("evals")).get("api_key")
    if not isinstance(api_key, str):
        return
    digest = hashlib.sha256(api_key.encode()).hexdigest()
    for _, key in _keys(raw):
        if key.get("sha256") == digest and key.get("sample") != "never":
            yield (
                f'evals.api_key: the traffic of key "{key.get("name")}" is sampled, so judges would judge their own '
                "calls; give that key `sample: never`"
            )
            return


def _webhook_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    known, webhooks = raw.get("experiments") or {}, raw.get("webhooks")
    for name, webhook in as_object(webhooks).items():
        for i, experiment in enumerate(as_list(as_object(webhook).get("experiments"))):
            if isinstance(experiment, str) and experiment not in known:
                hint = did_you_mean(experiment, known)
                yield f'webhooks.{name}.experiments[{i}]: no experiment "{experiment}"{hint}'


def _predictor_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    predictor = raw.get("predictor")
    if not isinstance(predictor, dict) or not isinstance(predictor.get("target"), str):
        return
    target = predictor["target"]
    if target.startswith(FEEDBACK_TARGET):
        return
    scorers, name = _sections(raw, "scorers"), target.removeprefix(LABELS_TARGET)
    if name not in (raw.get("scorers") or {}):
        hint = did_you_mean(name, scorers) or f"; known: {', '.join(scorers) or 'none'}, or feedback:NAME"
        yield f'predictor.target: no scorer "{name}"{hint}'
        return
    own, pi_min = scorers.get(name, {}).get("share", 1.0), predictor.get("pi_min", 0.05)
    if "share" not in predictor and isinstance(own, int | float) and isinstance(pi_min, int | float) and own < pi_min:
        yield (
            f"predictor.share: by default that of scorers.{name}, {own:g}, which is below pi_min {pi_min:g}; "
            "set share or lower pi_min"
        )


def _experiment_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    experiments = _sections(raw, "experiments")
    for name, experiment in experiments.items():
        yield from _mistakes_of_one(raw, name, experiment)
    for (a, one), (b, other) in combinations(experiments.items(), 2):
        same_model = one.get("model") == other.get("model") and isinstance(one.get("model"), str)
        if same_model and not _disjoint(one, other):
            yield (
                f'experiments.{b}.model: "{other["model"]}" is in experiments.{a} already, and a call can be in one; '
                "give one `start: manual` or `enabled: false`, or both `allow: {keys: […]}` without a common key"
            )


def _disjoint(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tells whether no call can be in both experiments. An experiment that a command starts does not count: the command
    is refused while the other one runs."""
    ours, theirs = _allowed_keys(one), _allowed_keys(other)
    off = any(each.get("enabled") is False or each.get("start") == "manual" for each in (one, other))
    return off or (ours is not None and theirs is not None and not set(ours) & set(theirs))


def _allowed_keys(experiment: dict[str, Any]) -> list[str] | None:
    keys = as_object(experiment.get("allow")).get("keys")
    return [str(key) for key in keys] if isinstance(keys, list) else None


def _mistakes_of_one(raw: dict[str, Any], name: str, experiment: dict[str, Any]) -> Iterator[str]:
    at = f"experiments.{name}"
    models = _sections(raw, "models")
    alias = experiment.get("model")
    if isinstance(alias, str) and is_pattern(alias):
        yield f'{at}.model: "{alias}" stands for many models; an experiment compares targets of one'
    if isinstance(alias, str) and alias not in models:
        yield f'{at}.model: no model "{alias}"{did_you_mean(alias, models)}'
    yield from _arm_mistakes(at, experiment, raw)
    yield from guard_candidate_mistakes(at, experiment, raw)
    yield from _control_mistakes(at, experiment, models.get(str(alias), {}))
    names = [str(key.get("name")) for _, key in _keys(raw)]
    for i, key in enumerate(_allowed_keys(experiment) or ()):
        if key not in names and not {"admin", "jwt"} & raw.keys():  # whose callers become known later
            yield f'{at}.allow.keys[{i}]: no key "{key}"{did_you_mean(key, names)}'
    yield from _metric_mistakes(at, experiment, _sections(raw, "scorers"))
    try:
        checked = Experiment.model_validate(experiment)
    except ValidationError:
        return  # validation_mistakes reports it
    yield from _contradictions(at, checked, models.get(str(alias), {}))
    if checked.likelihood:
        yield from _unscored_mistakes(at, checked, _sections(raw, "upstreams"))


def _unscored_mistakes(at: str, experiment: Experiment, upstreams: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Upstreams whose API has no log-probabilities of a prompt. An upstream of kind openai at an address of its own may
    be any server; its first answer shows whether it has them."""
    for arm, ref in {"control": experiment.control, **experiment.arms}.items():
        section = upstreams.get(ref.upstream, {})
        kind = section.get("kind")
        provider = PROVIDERS.get(kind) if isinstance(kind, str) else None
        if provider is None or provider.prompt_logprobs:
            continue
        if kind != "openai" or section.get("base_url") in (None, provider.base_url):
            yield (
                f"{at}.{arm}.upstream: {ref.upstream} is of kind {kind}, whose API has no log-probabilities of a "
                "prompt; `mode: likelihood` needs vLLM's `prompt_logprobs` in both arms: serve both by kind vllm, or "
                "compare answers with `mode: shadow`"
            )


def _arm_mistakes(at: str, experiment: dict[str, Any], raw: dict[str, Any]) -> Iterator[str]:
    several = _sections(experiment, "candidates")
    if ("candidate" in experiment) == bool(several):
        yield (
            f"{at}.candidate: give one candidate, or several by the names of their arms under `candidates`"
            f"{', not both' if several else ''}"
        )
    taken = (CONTROL, REPEAT, AGAIN) if experiment.get("mode") == "likelihood" else (CONTROL, REPEAT)
    for arm in several:
        if arm in taken:
            yield f'{at}.candidates.{arm}: "{arm}" is the name of the control\'s own arm; choose another'
    arms = {arm: experiment.get(arm) for arm in ("control", "candidate")}
    for arm, target in (arms | {f"candidates.{n}": t for n, t in several.items()}).items():
        if isinstance(target, dict) and isinstance(target.get("upstream"), str):
            yield from _unknown_upstream(f"{at}.{arm}.upstream", target["upstream"], raw)


def _control_mistakes(at: str, experiment: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    control = experiment.get("control")
    targets = model.get("targets")
    if not isinstance(control, dict) or not isinstance(targets, list):
        return
    known = [target for target in targets if isinstance(target, dict)]
    if any("route" in target for target in known):
        return  # routes.py checks it
    if any(_same(control, target, _TARGET_KEYS) for target in known):
        return
    name = f"{control.get('upstream')}/{control.get('model')}"
    where = f"models.{experiment.get('model')}"
    if any(_same(control, target, ("upstream", "model")) for target in known):
        yield (
            f"{at}.control: {name} is a target of {where} with other `set`, `system` or `headers`; the control is what "
            "users get, so repeat those of the target here"
        )
    else:
        yield f"{at}.control: {name} is not a target of {where}"


_TARGET_KEYS = ("upstream", "model", "set", "system", "headers")


def _same(one: Mapping[str, Any], other: Mapping[str, Any], keys: Sequence[str]) -> bool:
    return all((one.get(key) or None) == (other.get(key) or None) for key in keys)


def _metric_mistakes(at: str, experiment: dict[str, Any], scorers: Mapping[str, Any]) -> Iterator[str]:
    of_likelihood, by_run = experiment.get("mode") == "likelihood", experiment.get("unit") == "run"
    known = [*scorers, *BUILT_IN_METRICS, *(LIKELIHOOD_METRICS if of_likelihood else ())]
    known += RUN_METRICS
    primary, guardrails = experiment.get("primary"), experiment.get("guardrails")
    names = {"primary": primary} if isinstance(primary, str) else {}
    if isinstance(guardrails, dict):
        names |= {f"guardrails.{metric}": str(metric) for metric in guardrails}
        if primary in guardrails:
            yield f'{at}.guardrails.{primary}: "{primary}" is the primary metric, which has its margin already'
    for path, metric in names.items():
        if metric.startswith(FEEDBACK):
            yield from _feedback_mistakes(f"{at}.{path}", metric, experiment.get("mode", "shadow"))
        elif metric not in known:
            hint = did_you_mean(metric, known) or f"; known: {', '.join(known)}"
            yield f'{at}.{path}: no scorer and no metric "{metric}"{hint}'
        elif is_of_runs(metric, scorers) and not (by_run and experiment.get("mode") == "split"):
            if by_run and experiment.get("ramp") is not None and path != "primary" and metric not in RUN_METRICS:
                continue  # a ramp tests it on the runs that it serves
            yield (
                f"{at}.{path}: {metric} is of whole runs, and a shadow answers one call: set `mode: split, unit: run`, "
                "or have a scorer of runs as a guardrail of a ramp with `unit: run`"
            )
    for i, stratum in enumerate(as_list(experiment.get("strata"))):
        if stratum not in STRATA:
            yield f'{at}.strata[{i}]: expected one of {", ".join(STRATA)}, got "{stratum}"'


def is_of_runs(metric: str, scorers: Mapping[str, Any]) -> bool:
    """Whether a metric has one value for each run: a scorer of runs, or one of RUN_METRICS."""
    section = as_object(scorers.get(metric))
    used = str(section.get("use") or metric)
    scorer = metric in scorers and (used.startswith("run_") or section.get("unit") == "run")
    return metric in RUN_METRICS or scorer


def _feedback_mistakes(path: str, metric: str, mode: Any) -> Iterator[str]:
    """Rejects feedback as a metric of shadows: nobody sees a shadow's answer, so nobody can rate it."""
    if not FEEDBACK_NAME.fullmatch(metric.removeprefix(FEEDBACK)):
        yield f'{path}: "{metric}": the name of feedback is letters, digits, `_`, `-` and `.`, up to 64'
    if mode in ("shadow", "likelihood") or (mode == "both" and path.endswith(".primary")):
        yield (
            f"{path}: people rate only answers that they are served, so {metric} "
            f"{'decides' if mode == 'both' else 'is a metric of'} a split: set `mode: split`"
        )


FEEDBACK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _contradictions(at: str, experiment: Experiment, model: dict[str, Any]) -> Iterator[str]:
    """Values of one valid experiment that have no effect, or cannot hold together. model: the raw section."""
    shadows, splits = experiment.shadows, experiment.splits
    for key, used in (("shadow", shadows), ("repeat_control", shadows), ("split", splits)):
        if key in experiment.model_fields_set and not used:
            yield f"{at}.{key}: has no effect with `mode: {experiment.mode}`; remove it, or set `mode: both`"
    yield from _margin_mistakes(at, experiment)
    yield from _segment_mistakes(at, experiment)
    yield from _same_target_mistakes(at, experiment)
    yield from _ramp_mistakes(at, experiment)
    yield from _best_mistakes(at, experiment)
    if "record" in experiment.model_fields_set and not splits:
        yield f"{at}.record: has no effect with `mode: {experiment.mode}`, whose answers are always recorded"
    decides = (experiment.primary or "", *experiment.guardrails)
    if not any(metric.startswith(FEEDBACK) for metric in decides):
        for key in ("feedback_window_s", "feedback_missing"):
            if key in experiment.model_fields_set:
                yield f"{at}.{key}: has no effect, as no feedback is the primary or a guardrail; remove it"
    instructed = [arm for arm, ref in experiment.arms.items() if ref.system is not None]
    if instructed and "completions" in experiment.allow.apis and "apis" in experiment.allow.model_fields_set:
        yield f"{at}.allow.apis: completions have no system message, and arm {instructed[0]} sets one; leave it out"
    routed = [arm for arm, ref in experiment.arms.items() if ref.route is not None]
    unread = [api for api in experiment.allow.apis if api not in ROUTED_APIS]
    if routed and unread:
        yield (
            f"{at}.allow.apis: a learned route reads chats and completions only, and arm {routed[0]} is one; leave "
            f"{unread[0]} out"
        )
    yield from _deadline_mistakes(at, experiment, model)
    yield from _likelihood_mistakes(at, experiment) if experiment.likelihood else _method_mistakes(at, experiment)
    at_once = experiment.requests_of_shadow
    if shadows and not experiment.guarded and experiment.shadow_concurrency < at_once:
        yield (
            f"{at}.budget.concurrency: {experiment.budget.concurrency} is below the {at_once} requests of one shadow "
            "(each candidate, and the control again), so none could be sent"
        )
    start, stop = experiment.start, experiment.stop
    if isinstance(start, float) and stop is not None and stop <= start:
        yield f"{at}.stop: not after its start"


def _margin_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """A primary whose margin cannot be met: not by any candidate, or not within the horizon."""
    if experiment.primary is None or experiment.likelihood:
        return
    if not experiment.margin:
        yield (
            f"{at}.margin: 0, which no candidate can be shown to meet, however many pairs are paid for; give the "
            "largest loss that is acceptable, such as 0.02 (a guardrail may have 0)"
        )
        return
    most, alpha = experiment.max_pairs, experiment.alpha / max(1, len(experiment.arms))
    bounded = experiment.primary not in UNBOUNDED_METRICS
    if isinstance(most, int) and bounded and experiment.only_shadows and experiment.chosen_method == "hybrid":
        least = smallest_margin(most, alpha)
        if least >= experiment.margin:
            yield (
                f"{at}.max_pairs: {most} pairs cannot show a margin of {experiment.margin:g}, even if both arms were "
                f"alike in all of them (they show {least:.2g}); leave it out to plan enough pairs, or widen the margin"
            )


def _segment_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """Segments that cannot be told apart before a request is answered, or that nothing could decide."""
    segments = experiment.segments
    if segments is None:
        return
    at = f"{at}.segments"
    if experiment.chosen_mode not in ("shadow", "both") or (experiment.primary or "").startswith(FEEDBACK):
        yield f"{at}: segments compare pairs by the primary; they need `mode: shadow` or a `ramp`, and no feedback"
    if experiment.family == "best" and len(experiment.arms) > 1:
        yield f"{at}: has no effect with `family: best`, which compares candidates over all traffic; remove one of them"
    if experiment.primary is None:
        yield f"{at}: there is no primary that could decide in them; set `primary`"
    elif segments.margin is not None and segments.margin < experiment.margin:
        yield (
            f"{at}.margin: {segments.margin:g} is below the experiment's {experiment.margin:g}, which would take many "
            "times the pairs; give a larger one (default: twice the experiment's)"
        )
    for i, name in enumerate(segments.by):
        yield from _property_mistakes(f"{at}.by[{i}]", name)
    if len(segments.by) > MOST_PROPERTIES:
        yield f"{at}.by: {len(segments.by)} properties, at most {MOST_PROPERTIES}: each takes more pairs"
    for name, values in segments.values.items():
        if name not in segments.by:
            yield f'{at}.values.{name}: "{name}" is not in `by`; add it there, or remove its values'
        if not values or len(values) > MOST_VALUES:
            yield f"{at}.values.{name}: {len(values)} values, expected 1 to {MOST_VALUES}"
    design = segments.design(experiment.margin)
    if len(design.segments) > MOST_SEGMENTS:
        yield f"{at}: {len(design.segments)} segments, at most {MOST_SEGMENTS}; take properties out of `by`"
    if not segments.by and not segments.weak_spots:
        yield f"{at}: no property in `by` and `weak_spots: 0`, so it does nothing; remove it"


def _property_mistakes(at: str, name: str) -> Iterator[str]:
    known = [KEY, *PROPERTIES]
    if name in known or (name.startswith(METADATA) and name != METADATA):
        return
    hint = did_you_mean(name, known) or f"; known before a request is answered: {', '.join(known)}, {METADATA}NAME"
    yield f'{at}: no property "{name}" of a request{hint}'


def _same_target_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    for arm, ref in experiment.arms.items():
        if target_of(ref) == target_of(experiment.control):
            path = arm if experiment.candidate else f"candidates.{arm}"
            yield (
                f"{at}.{path}: is the control itself ({target_of(ref)}), so only noise would be compared and paid for; "
                "name another target, or give it `set`, `system` or `headers`"
            )


def _best_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """Yields why candidates cannot be compared with each other."""
    if experiment.family != "best":
        return
    if len(experiment.arms) < 2:
        yield (
            f"{at}.family: best compares candidates with each other, and there is {len(experiment.arms)}; name two or "
            "more under `candidates`, or remove it"
        )
    if experiment.chosen_mode != "shadow":
        setting = "ramp" if experiment.ramp else f"mode: {experiment.mode}"
        yield (
            f"{at}.family: best compares the answers of candidates to the same requests, which `{setting}` does not "
            "give; set `mode: shadow`, or remove it"
        )
    if experiment.primary is None:
        yield f"{at}.primary: `family: best` finds the best candidate by the primary metric; set `primary` to a scorer"


def _ramp_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    ramp, given = experiment.ramp, experiment.model_fields_set
    if ramp is None:
        return
    if experiment.mode != "both" and "mode" in given:
        yield f"{at}.mode: a ramp has shadows and serves the candidate's share, as `mode: both` does; remove it"
    if "split" in given:
        yield f"{at}.split: has no effect with `ramp`, whose steps are the shares that are served; remove it"
    if len(experiment.arms) > 1:
        yield f"{at}.ramp: there are {len(experiment.arms)} candidates, and a ramp has one"
    if experiment.primary is None:
        yield f"{at}.ramp: it advances with the verdict on the primary metric; set `primary`"
    if experiment.record != 1.0:
        yield f"{at}.record: {experiment.record:g}, but a ramp counts every answer that is served; remove it"
    exposure = ramp.largest_exposure
    if (experiment.primary or "").startswith(FEEDBACK) and exposure.requests is None and exposure.usd is None:
        yield (
            f"{at}.ramp.largest_exposure: feedback is given on served answers only, so the candidate serves before "
            "there is a verdict; say how many `requests` or `usd` it may"
        )


_OF_LIKELIHOOD = (*LIKELIHOOD_METRICS, *FAILURE_METRICS)


def _likelihood_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    """Yields settings that do not fit an experiment in which no candidate writes an answer."""
    given = experiment.model_fields_set
    if experiment.chosen_primary != NATS_PER_TOKEN:
        yield f"{at}.primary: `mode: likelihood` is decided by {NATS_PER_TOKEN}; remove it"
    for metric in experiment.guardrails:
        if metric not in _OF_LIKELIHOOD:
            yield (
                f"{at}.guardrails.{metric}: in `mode: likelihood` the candidate writes no answer; "
                f"metrics are {', '.join(_OF_LIKELIHOOD)}"
            )
    if not experiment.margin:
        yield f"{at}.margin: 0, which no engine can be shown to meet; give nats per token, such as 0.02"
    if experiment.chosen_method not in ("hybrid", "anytime"):
        yield f"{at}.method: {experiment.chosen_method} needs values with bounds; log-probabilities have none"
    if "max_pairs" in given and experiment.chosen_method != "hybrid":
        yield f"{at}.max_pairs: has no effect with `method: {experiment.chosen_method}`; remove it"
    for key in ("aa", "compare", "adjust"):
        if key in given:
            yield f"{at}.{key}: has no effect with `mode: likelihood`, whose arms take one path; remove it"
    if "apis" in experiment.allow.model_fields_set and "chat" not in experiment.allow.apis:
        yield f"{at}.allow.apis: `mode: likelihood` reads chat answers only; add chat"


def _method_mistakes(at: str, experiment: Experiment) -> Iterator[str]:
    given, method, share = experiment.model_fields_set, experiment.chosen_method, experiment.repeat_share
    if experiment.stationary is not None and experiment.method and experiment.stationary != (method == "stationary"):
        stationary = str(experiment.stationary).lower()
        yield f"{at}.stationary: {stationary} contradicts `method: {method}`; remove `stationary`"
    ends = method == "hybrid" or (method == "anytime" and experiment.family == "best")
    if "max_pairs" in given and (not ends or experiment.chosen_mode != "shadow"):
        setting = f"method: {method}" if not ends else "ramp" if experiment.ramp else f"mode: {experiment.mode}"
        yield f"{at}.max_pairs: has no effect with `{setting}`; remove it"
    if not experiment.shadows:
        for key in ("aa", "compare", "adjust"):
            if key in given:
                yield f"{at}.{key}: has no effect with `mode: split`; remove it"
        return
    if experiment.compare == "repeat" and share != 1:
        yield f"{at}.repeat_control: {share:g}, but `compare: repeat` needs every pair's repeat; remove it"
    elif experiment.aa == "alarm" and not share and not experiment.guarded:
        yield (
            f"{at}.repeat_control: 0, so the A/A alarm never sees the control twice and cannot go off; give a share "
            "above 0 (default 0.25), or `compare: repeat`"
        )


def _deadline_mistakes(at: str, experiment: Experiment, model: dict[str, Any]) -> Iterator[str]:
    timeouts, default = model.get("timeouts"), Timeouts().total_s
    total_s = timeouts.get("total_s", default) if isinstance(timeouts, dict) else default
    deadline_s = experiment.deadline_s
    if deadline_s is not None and isinstance(total_s, int | float) and deadline_s < total_s:
        yield (
            f"{at}.deadline_s: {deadline_s:g} is below the {total_s:g} s that a served answer may take "
            f"(models.{experiment.model}.timeouts.total_s): slow answers would fail in one arm only"
        )
