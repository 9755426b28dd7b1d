"""Names of upstreams, models, teams, people and experiments: a section may use only those that the file has."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gateway.config.cascades import CascadeConfig
from gateway.config.checks.decision_targets import decision_model_mistakes
from gateway.config.checks.partial import Invalid, in_each, numbered, readable
from gateway.config.config import ApiKey, Config, Model, Passthrough
from gateway.config.derive import target_of
from gateway.config.jwt import TokenCaller
from gateway.config.limits import Team
from gateway.config.predictor import PI_MIN
from gateway.config.upstreams import TargetRef, Upstream
from gateway.config.webhook import WebhookConfig
from gateway.core.did_you_mean import did_you_mean
from gateway.core.guards import GUARD
from gateway.core.learned_route import ROUTE
from gateway.core.providers import ONE_HOT_READING, PROVIDERS
from gateway.core.wildcards import STAR, is_pattern, is_unknown

_SINGULAR = {"teams": "team", "people": "person", "organizations": "organization", "keys": "key"}


def reference_mistakes(config: Config) -> Iterator[str]:
    """The mistakes of all sections but experiments, guards and those of callers."""
    yield from in_each(config, "upstreams", _variable_mistakes, _share_mistakes, _kind_mistakes, _engine_mistakes)
    yield from readable(_passthrough_mistakes(config))
    yield from in_each(config, "models", _model_mistakes)
    yield from readable(_default_mistakes(config))
    yield from in_each(config, "teams", _team_mistakes)
    yield from in_each(config, "webhooks", _webhook_mistakes)
    yield from readable(_predictor_mistakes(config))
    yield from readable(_decision_mistakes(config))
    yield from in_each(config, "cascades", _cascade_mistakes)


def unknown_upstream(path: str, name: str, config: Config) -> Iterator[str]:
    if name not in config.upstreams:
        yield f'{path}: no upstream "{name}"{did_you_mean(name, config.upstreams)}'


def unknown_target(at: str, target: TargetRef, config: Config) -> Iterator[str]:
    stands_for = {ROUTE: target.route, GUARD: target.guard}  # a route and a guard have a target's name
    if stands_for.get(target.upstream) is None:
        yield from unknown_upstream(f"{at}.upstream", target.upstream, config)


def unknown_models(at: str, caller: ApiKey | Team | TokenCaller, config: Config) -> Iterator[str]:
    for i, alias in numbered(caller.models or ()):
        if is_unknown(alias, config.models):
            yield f'{at}.models[{i}]: no model "{alias}"{did_you_mean(alias, config.models)}'


def unknown_name(at: str, name: str | None, section: str, known: Collection[str]) -> Iterator[str]:
    """section: the one that lacks the name."""
    if name is not None and name not in known:
        yield f'{at}: no {_SINGULAR[section]} "{name}"{did_you_mean(name, known) or f"; add it to `{section}`"}'


def key_names(config: Config) -> list[str]:
    return [name for key in config.keys if (name := getattr(key, "name", None)) is not None]


def _variable_mistakes(at: str, upstream: Upstream, config: Config) -> Iterator[str]:
    """Variables of the environment as LiteLLM's files name them."""
    for setting, value in (("api_key", upstream.api_key), ("base_url", upstream.base_url)):
        if (value or "").startswith("os.environ/"):
            yield f"{at}.{setting}: os.environ/NAME is not read here; write ${{NAME}}"


def _share_mistakes(at: str, upstream: Upstream, config: Config) -> Iterator[str]:
    """Teams and keys that the file does not have; those of the admin API are not known here."""
    if "admin" in config.model_fields_set or upstream.shares is None:
        return
    for team in upstream.shares.teams:
        yield from unknown_name(f"{at}.shares.teams", team, "teams", config.teams)
    for key in upstream.shares.keys:
        yield from unknown_name(f"{at}.shares.keys", key, "keys", key_names(config))


def _kind_mistakes(at: str, upstream: Upstream, config: Config) -> Iterator[str]:
    kind = upstream.kind
    if kind not in PROVIDERS:
        hint = did_you_mean(kind, PROVIDERS) or f"; known: {', '.join(PROVIDERS)}"
        yield f'{at}.kind: no kind "{kind}"{hint}'
    elif PROVIDERS[kind].base_url is None and "base_url" not in upstream.model_fields_set:
        yield f"{at}.base_url: missing; {kind} has no default address"


def _engine_mistakes(at: str, upstream: Upstream, config: Config) -> Iterator[str]:
    if upstream.run is not None and upstream.run.engine != upstream.kind:
        engine = upstream.run.engine
        yield f"{at}.run.engine: {engine} cannot run an upstream of kind {upstream.kind}; both must be the same"


_PASSTHROUGH_KINDS = {"gemini": ("gemini_native",), "bedrock": ("bedrock_converse", "bedrock_anthropic")}


def _passthrough_mistakes(config: Config) -> Iterator[str]:
    upstreams = config.passthrough
    if isinstance(upstreams, str):
        yield from unknown_upstream("passthrough", upstreams, config)
    elif upstreams is not None:
        for api in upstreams.model_fields_set:
            yield from readable(_forwarded_mistakes(api, upstreams, config))


def _forwarded_mistakes(api: str, upstreams: Passthrough, config: Config) -> Iterator[str]:
    name: str | None = getattr(upstreams, api)
    if name is None:
        return
    yield from unknown_upstream(f"passthrough.{api}", name, config)
    expected = _PASSTHROUGH_KINDS.get(api, ())
    if expected and name in config.upstreams and (kind := config.upstreams[name].kind) not in expected:
        yield f'passthrough.{api}: the upstream "{name}" is of kind {kind}; expected {" or ".join(expected)}'


def _model_mistakes(at: str, model: Model, config: Config) -> Iterator[str]:
    alias = at.removeprefix("models.")
    for part in ("targets", "fallback"):
        for i, target in enumerate(getattr(model, part, ())):
            path = f"{at}.{part}[{i}]"
            yield from readable(_guard_mistakes(path, target))
            yield from readable(unknown_target(path, target, config))
            yield from readable(_star_mistakes(path, target, alias))
    yield from readable(_objective_mistakes(at, model, config))
    yield from readable(_reading_mistakes(at, model, config))
    yield from readable(decision_model_mistakes(at, model, config))


def _reading_mistakes(at: str, model: Model, config: Config) -> Iterator[str]:
    asked = getattr(model, "decisions", None)
    if asked is None or asked.reading == "native":
        return
    alias = at.removeprefix("models.")
    if asked.probed is None:
        yield (
            f"{at}.decisions.probed: missing; a reading can be noise although its answers look healthy: leave "
            f"`decisions` of this model out, run `gateway decisions probe {alias}`, and add the lines that it prints"
        )
    if asked.reading != "slot":
        return
    from gateway.core.decision_reads import read_engine  # only where decisions are emulated

    for part in ("targets", "fallback"):
        for i, target in enumerate(getattr(model, part, ())):
            upstream = config.upstreams.get(target.upstream)
            if upstream is None or upstream.kind not in PROVIDERS:
                continue
            if read_engine(upstream.kind, upstream.continues_prefill).continues is None:
                yield (
                    f"{at}.decisions.reading: slot needs servers that continue a last assistant message, and "
                    f'{part}[{i}] is at "{target.upstream}" of kind {upstream.kind}; set `prefill` of that upstream if '
                    "it does, or take another reading"
                )


def _objective_mistakes(at: str, model: Model, config: Config) -> Iterator[str]:
    for name in model.score_objectives:
        if name not in config.scorers:
            hint = did_you_mean(name, config.scorers) or f"; known: {', '.join(config.scorers) or 'none'}"
            yield f'{at}.score_objectives: no scorer "{name}"{hint}'


def _guard_mistakes(at: str, target: TargetRef) -> Iterator[str]:
    if target.guard is not None:
        yield f"{at}.guard: a guard answers no calls; name an upstream and a model"


def _star_mistakes(at: str, target: TargetRef, alias: str) -> Iterator[str]:
    model = target.model
    if STAR in model and not is_pattern(alias):
        yield f'{at}.model: "{model}" has a star, which stands for what a request names; "{alias}" is one name'
    elif model.count(STAR) > 1:
        yield f'{at}.model: "{model}" has more than one star'


def _default_mistakes(config: Config) -> Iterator[str]:
    defaults = {} if config.defaults == "auto" else config.defaults
    for api, alias in defaults.items():
        if not isinstance(alias, Invalid) and (is_unknown(alias, config.models) or is_pattern(alias)):
            yield f'defaults.{api}: no model "{alias}"{did_you_mean(alias, config.models)}'


def _team_mistakes(at: str, team: Team, config: Config) -> Iterator[str]:
    yield from unknown_name(f"{at}.organization", team.organization, "organizations", config.organizations)
    yield from unknown_models(at, team, config)


def _webhook_mistakes(at: str, webhook: WebhookConfig, config: Config) -> Iterator[str]:
    for i, name in numbered(webhook.experiments or ()):
        if name not in config.experiments:
            yield f'{at}.experiments[{i}]: no experiment "{name}"{did_you_mean(name, config.experiments)}'


def _predictor_mistakes(config: Config) -> Iterator[str]:
    of, scorers = config.predictor, config.scorers
    if of is None or (name := of.guided) is None:
        return
    if name not in scorers:
        hint = did_you_mean(name, scorers) or f"; known: {', '.join(scorers) or 'none'}, or feedback:NAME"
        yield f'predictor.target: no scorer "{name}"{hint}'
        return
    least = of.pi_min if "pi_min" in of.model_fields_set else PI_MIN
    if "share" not in of.model_fields_set and least is not None and (own := scorers[name].share) < least:
        yield (
            f"predictor.share: by default that of scorers.{name}, {own:g}, which is below pi_min {least:g}; "
            "set share or lower pi_min"
        )


def _decision_mistakes(config: Config) -> Iterator[str]:
    for name, question in config.decisions.questions.items():
        if is_unknown(question.model, config.models):
            hint = did_you_mean(question.model, config.models)
            yield f'decisions.questions.{name}.model: no model "{question.model}"{hint}'
    for name, certificate in config.decisions.certificates.items():
        at = f"decisions.certificates.{name}"
        if certificate.scorer is not None and certificate.scorer not in config.scorers:
            hint = did_you_mean(certificate.scorer, config.scorers) or f"; known: {', '.join(config.scorers) or 'none'}"
            yield f'{at}.scorer: no scorer "{certificate.scorer}"{hint}'
        elif certificate.scorer is not None and (asked := _one_hot_source(certificate.scorer, config)) is not None:
            yield (
                f'{at}.scorer: "{certificate.scorer}" rests on {asked}, whose answers count as certain: 1 and 0 are no '
                "probabilities, so no threshold can be chosen; take a reading with log-probabilities "
                "(`gateway decisions probe`)"
            )
        if certificate.guard is not None and certificate.guard not in config.guards:
            yield f'{at}.guard: no guard "{certificate.guard}"{did_you_mean(certificate.guard, config.guards)}'


def _one_hot_source(scorer: str, config: Config) -> str | None:
    """The reading or model name from which a scorer has its number, in words, if that gives 1 and 0 only."""
    options = config.scorers[scorer].options
    if options.get("reading") == ONE_HOT_READING:
        return f"the reading {ONE_HOT_READING}"
    name = options.get("model")
    decisions = getattr(config.models.get(name), "decisions", None) if isinstance(name, str) else None
    one_hot = decisions is not None and decisions.allow_one_hot
    return f"models.{name} with `allow_one_hot`" if one_hot else None


def _cascade_mistakes(at: str, cascade: CascadeConfig, config: Config) -> Iterator[str]:
    """Certificates that say nothing of the first target's own answers."""
    if not cascade.certificates:
        return
    # Imported here: a gateway without certificates loads nothing of them.
    from gateway.config.checks.accepted_certificates import certificate_mistakes

    reading = _reading(cascade.model, config)
    yield from certificate_mistakes(at, cascade.certificates, str(target_of(cascade.first)), config, reading)


def _reading(alias: str, config: Config) -> str:
    model = config.models.get(alias)
    return "native" if model is None or model.decisions is None else model.decisions.reading
