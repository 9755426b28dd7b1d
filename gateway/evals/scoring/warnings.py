"""What the scorers and the rest of the config say of each other: mistakes, and what a user should know before trusting
a judge. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.derive import prices_of
from gateway.config.models import Config, Model
from gateway.core.did_you_mean import did_you_mean
from gateway.core.exchange import Target
from gateway.evals.scoring.asker import NO_GATEWAY
from gateway.evals.scoring.model_families import shared_family
from gateway.evals.scoring.registry import BuiltScorers

MOST_NAMED = 3


def config_mistakes(config: Config, built: BuiltScorers, *, gateway_known: bool = True) -> list[str]:
    """Aliases that judges would ask and nobody serves; and, for whoever runs them, judges that reach no gateway."""
    lines = []
    for name, alias in _asked(built):
        if alias not in config.models:
            known = did_you_mean(alias, config.models) or f"; known: {', '.join(config.models)}"
            lines.append(f'scorers.{name}: no model "{alias}"{known}')
        if not gateway_known:
            lines.append(f"scorers.{name}: {NO_GATEWAY}")
    return lines


def config_warnings(config: Config, built: BuiltScorers) -> list[str]:
    """Judges of the family of what they judge, and budgets in USD without a price."""
    return [*_kin(config, built), *_unpriced(config, built)]


def _kin(config: Config, built: BuiltScorers) -> Iterator[str]:
    for name, alias in _asked(built):
        if alias not in config.models or built.all()[name].scorer.kind != "llm":
            continue
        judged = _judged(config, alias)
        for judge in _targets(config.models[alias]):
            related = [(t, family) for t in judged if (family := shared_family(judge.model, t.model))]
            if related:
                listed = ", ".join(str(t) for t, _ in related[:MOST_NAMED])
                more = f" and {len(related) - MOST_NAMED} more" if len(related) > MOST_NAMED else ""
                yield (
                    f"scorers.{name}: its judge {judge} is of one family ({related[0][1]}) with "
                    f"{listed}{more}, which it judges; models prefer their own kin: take another judge, or calibrate it"
                )
                break


def _unpriced(config: Config, built: BuiltScorers) -> Iterator[str]:
    prices = prices_of(config)
    for name, alias in _asked(built):
        section = config.scorers.get(name)
        if section is None or section.budget_usd is None or alias not in config.models:
            continue
        for target in _targets(config.models[alias]):
            if prices.of(target) is None:
                yield (
                    f"scorers.{name}.budget_usd: {target} has no price, so it cannot be kept "
                    "and the scorer will be blocked; give it a price in `prices`, or a budget in tokens"
                )


def _asked(built: BuiltScorers) -> Iterator[tuple[str, str]]:
    """Each scorer that asks the gateway, and the alias that it asks."""
    for name, registered in built.all().items():
        if not registered.foreign:
            yield from ((name, alias) for alias in getattr(registered.scorer, "models", ()))


def _judged(config: Config, judge: str) -> list[Target]:
    """What may be judged: every target but those of the judge's own alias, unless there is no other."""
    others = [m for alias, m in config.models.items() if alias != judge] or list(config.models.values())
    found = [t for model in others for t in _targets(model)]
    for experiment in config.experiments.values():
        found += [Target(ref.upstream, ref.model) for ref in (experiment.control, *experiment.arms.values())]
    return list(dict.fromkeys(found))


def _targets(model: Model) -> list[Target]:
    return [Target(t.upstream, t.model) for t in (*model.targets, *model.fallback)]
