"""The results of `gateway learn` on the terminal and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

from gateway.core.sanitize import plain
from gateway.features.learned.card import card_lines
from gateway.features.learned.inspect import Explanation, FeatureEffect, Importances, LearnStatus
from gateway.observability.eval_metrics import DriftFigures

_SHOWN = 15


class PredictorModelOutput(TypedDict):
    version: str
    """SHA-256 of the model."""
    created: float
    """Unix seconds."""
    trained_from: float
    """Unix seconds: the arrival of the oldest exchange that it was trained on."""
    trained_to: float
    rows: int
    """Exchanges that it was trained on."""
    features: int
    card: dict[str, Any]
    """Accuracy of its predictions of exchanges that it had not seen."""


class LearnStatusOutput(TypedDict):
    """The model that selects what a judge sees."""

    target: str
    values: int
    """Exchanges that a training would use now."""
    min_rows: int
    exchanges_24h: int
    judged_24h: int
    failed_24h: int
    mean_pi_24h: float | None
    """The mean probability of being judged; None if there was no exchange."""
    model: PredictorModelOutput | None


class TrainingOutput(TypedDict):
    """The outcome of a training."""

    rows: int
    """Exchanges with a value."""
    version: str | None
    """The model's version; None if there are too few values for a model."""
    cpu_s: float


class FeatureImportanceOutput(TypedDict):
    feature: str
    importance: float
    """Growth of the mean squared error when its values are shuffled."""


class ImportancesOutput(TypedDict):
    """Features that a model relies on."""

    version: str
    exchanges: int
    unseen: bool
    """The exchanges came after the training."""
    features: list[FeatureImportanceOutput]


class FeatureEffectOutput(TypedDict):
    feature: str
    effect: float
    """The prediction less what it would be if the feature had its usual value."""


class ExplanationOutput(TypedDict):
    """Features that decided one prediction."""

    exchange_id: str
    scorer: str
    version: str
    """The model that predicted; "" if there was none."""
    predicted: float | None
    residual: float | None
    """The expected squared error of the prediction."""
    pi: float
    """The probability of being judged."""
    judged: bool
    received: float
    """Unix seconds."""
    alias: str
    model: str
    stratum: str
    feature_set: str
    explained_by: str
    """The model that the effects are of: the newest."""
    features: list[FeatureEffectOutput]


class ForgottenOutput(TypedDict):
    """A usual range that a drift alarm has forgotten."""

    alias: str
    kind: Literal["quality", "input"]
    statistic: float
    limit: float
    """The alarm is on from here."""
    alarm: bool


def status_dict(status: LearnStatus) -> LearnStatusOutput:
    model, share = status.model, status.since_yesterday
    of_model: PredictorModelOutput | None = None
    if model is not None:
        of_model = {
            "version": model.version,
            "created": model.created,
            "trained_from": model.trained_from,
            "trained_to": model.trained_to,
            "rows": model.rows,
            "features": len(model.features),
            "card": dict(model.card),
        }
    return {
        "target": status.target,
        "values": status.values,
        "min_rows": status.min_rows,
        "exchanges_24h": share.exchanges,
        "judged_24h": share.judged,
        "failed_24h": share.failed,
        "mean_pi_24h": share.mean_pi,
        "model": of_model,
    }


def status_text(status: LearnStatus) -> str:
    model, share = status.model, status.since_yesterday
    lines = [f"target {plain(status.target)}: {status.values} exchanges with a value and features"]
    if model is None:
        lines.append(f"no model yet; a training needs {status.min_rows} of them (min_rows)")
    else:
        lines += [f"model {model.version[:12]}, trained on {model.rows} exchanges", *card_lines(model.card)]
    if share.exchanges:
        mean = "–" if share.mean_pi is None else f"{share.mean_pi:.3f}"
        lines.append(f"last 24 h: {share.judged} of {share.exchanges} exchanges drawn, mean probability {mean}")
        if share.failed:
            lines.append(f"the judge failed on {share.failed} of them; `gateway status` has the reason")
    return "\n".join(lines)


def importances_dict(found: Importances) -> ImportancesOutput:
    effects: list[FeatureImportanceOutput] = [{"feature": e.feature, "importance": e.effect} for e in found.effects]
    return {"version": found.version, "exchanges": found.exchanges, "unseen": found.unseen, "features": effects}


def importances_text(found: Importances) -> str:
    seen = "after its training" if found.unseen else "which it was also trained on: too few are newer"
    head = (
        f"model {found.version[:12]}: growth of the mean squared error when a feature is shuffled, over "
        f"{found.exchanges} exchanges {seen}"
    )
    return "\n".join([head, *_table(found.effects, "{:9.5f}")])


def explanation_dict(found: Explanation) -> dict[str, Any]:
    """The members of ExplanationOutput."""
    effects = [{"feature": e.feature, "effect": e.effect} for e in found.effects]
    return {**found.stored, "explained_by": found.version, "features": effects}


def explanation_text(found: Explanation) -> str:
    row = found.stored
    drawn = "drawn" if row["judged"] else "not drawn"
    value = "no model yet"
    if row["predicted"] is not None:
        error = f"expected squared error {row['residual']:.4f}"
        value = f"predicted {row['predicted']:.3f}, {error}, model {row['version'][:12]}"
    lines = [f"exchange {plain(row['exchange_id'])}: {value}", f"probability of being judged {row['pi']:.3f}: {drawn}"]
    if row["version"] != found.version:
        lines.append(f"explained with the newest model, {found.version[:12]}")
    lines.append("prediction less what it would be if the feature had its usual value:")
    return "\n".join([*lines, *_table([e for e in found.effects if e.effect], "{:+9.4f}")])


def forgotten_dicts(forgotten: Sequence[DriftFigures]) -> list[ForgottenOutput]:
    return [
        {"alias": e.alias, "kind": e.kind, "statistic": e.statistic, "limit": e.limit, "alarm": e.alarm}
        for e in forgotten
    ]


def forgotten_text(forgotten: Sequence[DriftFigures]) -> str:
    return "\n".join(
        f"{plain(e.alias)}: the usual range of {e.kind} is forgotten; its alarm was {'on' if e.alarm else 'off'} "
        f"({e.statistic:.1f} of {e.limit:.1f})"
        for e in forgotten
    )


def _table(effects: tuple[FeatureEffect, ...] | list[FeatureEffect], form: str) -> list[str]:
    return [f"{form.format(e.effect)}  {e.feature}" for e in effects[:_SHOWN]]
