"""One planted traffic under five policies: money and quality, with intervals, of requests that taught nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fixtures.route_worlds import MARGIN, World, terms, world

from gateway.core.request_features import FEATURES
from gateway.features.route.learning import learn
from gateway.features.route.verification import leaves_on

PLANTED = {"code": 0.3}
Z = 1.96


@dataclass(frozen=True)
class Measured:
    """Results of one policy: USD per 1 000 requests, and the quality lost against the large model, with half-widths."""

    policy: str
    moved: float
    usd: float
    usd_half: float
    loss: float
    loss_half: float

    def __str__(self) -> str:
        return (
            f"| {self.policy} | {self.moved:.0%} | {self.usd:.2f} ± {self.usd_half:.2f} | "
            f"{self.loss + 0.0:.3f} ± {self.loss_half:.3f} |"
        )


def measured(policy: str, of: World, moved: Any) -> Measured:
    pairs, n = of.pairs, len(of.pairs)
    usd = 1000 * np.where(moved, pairs.cost_moved, pairs.cost_control)
    loss = np.where(moved, -pairs.difference, 0.0)
    half = [Z * values.std() / n**0.5 for values in (usd, loss)]
    return Measured(policy, float(np.mean(moved)), float(usd.mean()), half[0], float(loss.mean()), half[1])


def by_length(of: World, share: float) -> Any:
    """The rule of gateways that route by the length of the prompt: the shortest go to the small model."""
    size = of.pairs.x[:, FEATURES.index("request_bytes")]
    return size <= np.quantile(size, share)


@pytest.fixture(scope="module")
def table() -> dict[str, Measured]:
    """The five policies, measured on the same requests."""
    fresh = world(4000, PLANTED, 4242)
    policies: dict[str, Any] = {
        "all on the large model": np.zeros(4000, dtype=bool),
        "all on the small model": np.ones(4000, dtype=bool),
    }
    for kind in ("tree", "boosted"):
        if kind == "boosted":
            pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra learn)")
        route = learn(terms(kind=kind), world(2000, PLANTED, 7).pairs, now=2e9).route
        assert route is not None
        kept = [i for i, leaf in enumerate(route.leaves) if leaf.moved]
        policies[f"learned route ({kind})"] = np.isin(leaves_on(route, fresh.pairs), kept)
    share = float(np.mean(policies["learned route (tree)"]))
    policies["by prompt length, as many moved"] = by_length(fresh, share)
    return {name: measured(name, fresh, moved) for name, moved in policies.items()}


def test_a_learned_route_keeps_the_quality_and_saves_the_money(table: dict[str, Measured]) -> None:
    rows = ["| policy | moved | USD per 1 000 | quality lost |", "|---|---|---|---|", *map(str, table.values())]
    print("\n".join(rows))  # noqa: T201 - the table of the documentation
    large, small = table["all on the large model"], table["all on the small model"]
    route, rule = table["learned route (tree)"], table["by prompt length, as many moved"]
    assert route.loss + route.loss_half < MARGIN < small.loss + small.loss_half
    assert route.usd + route.usd_half < 0.4 * large.usd
    assert rule.loss - rule.loss_half > route.loss + route.loss_half, "as many moved, and the wrong ones"
