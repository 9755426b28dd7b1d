"""Turns a snapshot of the store into the figures that Prometheus reads. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from gateway.config.config import Config
from gateway.config.derive import model_names
from gateway.config.metric_labels import OTHER, MetricLabels
from gateway.observability.eval_metrics import AliasScoreFigures, EvalFigures, ScoreFigures
from gateway.observability.label_history import LabelHistory
from gateway.scoring.registry import Registered, RegisteredPair, RegisteredRun, RegisteredScorer
from gateway.statistics.sampled_mean import StratumSums, WeightedEstimate, weighted_mean
from gateway.store.guided_means import guided_mean, harmful, target_names
from gateway.store.score_sums import BUCKET_COUNT, WIDE_BOUNDS, ScorerCost, bucket_bounds
from gateway.store.snapshot import CellKey, ScoreCell, StoreSnapshot
from gateway.stream import Lag


class Gauges:
    """The figures of one store. Labels are names from the config; a name that it no longer has becomes "other"."""

    def __init__(
        self,
        config: Config,
        scorers: Mapping[str, RegisteredScorer],
        others: Mapping[str, RegisteredPair | RegisteredRun] | None = None,
        history: LabelHistory | None = None,
    ) -> None:
        """others: scorers of pairs and of runs. history: labels of earlier configs; None if there were none."""
        self._scorers = scorers
        self._objectives = {
            (alias, scorer): least
            for alias, model in config.models.items()
            for scorer, least in model.score_objectives.items()
        }
        self._labels = MetricLabels.of(config)
        self._history = history or LabelHistory()
        self._history.follow(replace(self._labels, aliases=self._labels.scored_aliases))
        gated: dict[str, Registered] = {**scorers, **(others or {})}
        self._gates = {name: registered.gate for name, registered in gated.items() if registered.gate is not None}
        self._known = frozenset({*scorers, *(others or {})})
        self._models = model_names(config)
        self._target = None if config.predictor is None else config.predictor.target
        self._limits = {
            name: {"usd": section.budget_usd, "tokens": section.budget_tokens}
            for name, section in config.scorers.items()
        }

    def show(self, snapshot: StoreSnapshot, lag: Lag) -> EvalFigures:
        groups: dict[tuple[str, str, str], list[ScoreCell]] = {}
        for cell in snapshot.cells:
            key = cell.key
            scorer = key.scorer if key.scorer in self._scorers else OTHER
            model = key.model if key.model in self._models else OTHER
            groups.setdefault((scorer, model, _arm(key)), []).append(cell)
        spent = self._spent(snapshot.costs)
        return EvalFigures(
            scores=tuple(self._figures(*labels, cells, snapshot) for labels, cells in sorted(groups.items())),
            alias_scores=tuple(self._by_alias(snapshot)),
            objectives=self._objectives,
            dead_letters=snapshot.dead_letters,
            duplicates=snapshot.duplicates,
            unaccounted=snapshot.unaccounted,
            lost=snapshot.lost,
            oldest_unscored_s=lag.oldest_s,
            length=lag.length,
            waiting=lag.waiting,
            pending=lag.pending,
            blocked=self.gates(),
            cards={target: card for target, card in snapshot.cards.items() if target == self._target},
            cost_usd={name: cost.usd for name, cost in spent.items()},
            tokens={name: cost.tokens for name, cost in spent.items()},
        )

    def _by_alias(self, snapshot: StoreSnapshot) -> Iterator[AliasScoreFigures]:
        groups: dict[tuple[str, str, str, str, str], list[ScoreCell]] = {}
        for cell in snapshot.cells:
            place = self._place(cell.key)
            if place is not None and cell.key.scorer in self._scorers:
                groups.setdefault((*place, cell.key.scorer, _arm(cell.key)), []).append(cell)
        for (alias, upstream, model, scorer, arm), cells in sorted(groups.items()):
            yield AliasScoreFigures(alias, upstream, model, self._figures(scorer, model, arm, cells, snapshot))

    def _place(self, key: CellKey) -> tuple[str, str, str] | None:
        """The alias, upstream and model of a cell's series; None: the config has named neither for an hour."""
        if not self._history.kept(key.alias):
            return (OTHER, OTHER, OTHER) if key.alias in self._labels.aliases else None
        target = self._labels.target(key.alias, key.model) or self._history.target(key.model)
        return None if target is None else (key.alias, *target)

    def budgets(self, spent: Mapping[str, float]) -> dict[str, float]:
        """The share of each scorer's daily budget that is used; of two limits the larger share.

        spent: today's sums, by "scorer:usd" and "scorer:tokens".
        """
        return {
            name: max(spent.get(f"{name}:{what}", 0.0) / limit for what, limit in limits.items() if limit)
            for name, limits in self._limits.items()
            if any(limits.values())
        }

    def gates(self) -> dict[str, str | None]:
        """The reason why each scorer that can be blocked is; None if it is not."""
        return {name: gate.reason for name, gate in self._gates.items()}

    def _spent(self, costs: Mapping[str, ScorerCost]) -> dict[str, ScorerCost]:
        """Costs by configured scorer; 0 for one that calls a model and has not spent: its series starts at 0."""
        spent = {name: ScorerCost() for name in self._gates}
        for name, cost in costs.items():
            shown = name if name in self._known else OTHER
            so_far = spent.get(shown, ScorerCost())
            spent[shown] = ScorerCost(so_far.usd + cost.usd, so_far.tokens + cost.tokens)
        return spent

    def _figures(
        self, scorer: str, model: str, arm: str, cells: Sequence[ScoreCell], snapshot: StoreSnapshot
    ) -> ScoreFigures:
        """Counters add all versions of a scorer, so that they never decrease; the mean is of the running version."""
        by_status: Counter[str] = Counter()
        for cell in cells:
            by_status.update({status: n for status, n in cell.n.items() if n})
        registered = self._scorers.get(scorer)
        bounds = bucket_bounds(*registered.scorer.bounds) if registered else WIDE_BOUNDS
        found = self._estimate(registered, cells, snapshot) if registered else None
        known = found is not None and found.mean is not None
        mean, low, high = (found.mean, found.low, found.high) if found is not None and known else (None, None, None)
        sizes, products, squares = zip(*(cell.closed_units for cell in cells), strict=True)
        least, most = (None, None) if registered is None else registered.scorer.bounds
        return ScoreFigures(
            scorer,
            model,
            arm,
            by_status,
            mean,
            low,
            high,
            weighted_sum=sum(cell.weighted_sum for cell in cells),
            weight=sum(cell.weight for cell in cells),
            closed_units=(sum(sizes), sum(products), sum(squares)),
            span=0.0 if least is None or most is None else most - least,
            buckets=_buckets(bounds, cells),
            effective_n=0.0 if found is None else found.effective_n,
        )

    def _estimate(
        self, registered: RegisteredScorer, cells: Iterable[ScoreCell], snapshot: StoreSnapshot
    ) -> WeightedEstimate:
        scorer = registered.scorer
        now = (scorer.version, registered.config_hash)
        running = [cell for cell in cells if (cell.key.version, cell.key.config_hash) == now]
        off = any(harmful(snapshot.cards.get(target, {})) for target in target_names(scorer.name))
        guided = guided_mean(running, snapshot.guided, scorer.bounds, scorer.direction, controlled=not off)
        return guided or weighted_mean([strata_of(cell) for cell in running], scorer.bounds)


def _arm(key: CellKey) -> str:
    return key.arm if key.arm in ("", "control", "candidate") else OTHER


def strata_of(cell: ScoreCell) -> StratumSums:
    key, n = cell.key, cell.n
    return StratumSums(
        name=f"{key.alias} {key.model} {key.stratum}",
        scored=n["scored"],
        total=cell.total,
        squares=cell.squares,
        not_applicable=n["not_applicable"],
        nonresponse=n["error"] + n["timeout"] + n["budget"],
        inverse_pi=cell.inverse_pi,
        population=cell.population,
        units=cell.units,
    )


def _buckets(bounds: tuple[float, ...], cells: Iterable[ScoreCell]) -> tuple[tuple[str, float], ...]:
    weights = [0.0] * BUCKET_COUNT
    for cell in cells:
        weights = [w + more for w, more in zip(weights, cell.bucket_weights, strict=True)]
    return tuple(zip((*map(str, bounds), "+Inf"), weights, strict=True))
