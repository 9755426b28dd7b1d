"""The results of `gateway learn` on the terminal and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.core.sanitize import plain
from gateway.features.learned.card import card_lines
from gateway.features.learned.inspect import Explanation, FeatureEffect, Importances, LearnStatus
from gateway.observability.eval_metrics import DriftFigures

_SHOWN = 15


def status_dict(status: LearnStatus) -> dict[str, Any]:
    model, share = status.model, status.since_yesterday
    of_model: dict[str, Any] | None = None
    if model is not None:
        of_model = {name: getattr(model, name) for name in ("version", "created", "trained_from", "trained_to", "rows")}
        of_model |= {"features": len(model.features), "card": model.card}
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


def importances_dict(found: Importances) -> dict[str, Any]:
    effects = [{"feature": e.feature, "importance": e.effect} for e in found.effects]
    return {"version": found.version, "exchanges": found.exchanges, "unseen": found.unseen, "features": effects}


def importances_text(found: Importances) -> str:
    seen = "after its training" if found.unseen else "which it was also trained on: too few are newer"
    head = (
        f"model {found.version[:12]}: growth of the mean squared error when a feature is shuffled, over "
        f"{found.exchanges} exchanges {seen}"
    )
    return "\n".join([head, *_table(found.effects, "{:9.5f}")])


def explanation_dict(found: Explanation) -> dict[str, Any]:
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


def forgotten_dicts(forgotten: Sequence[DriftFigures]) -> list[dict[str, Any]]:
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
