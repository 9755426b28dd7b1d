"""Measures how many judged answers the learned predictor saves on real records, and what it is worth to limits.

The first half of the records, in order of arrival, is judged wholly and trains the model; the second half is then
judged again and again with other draws, at several shares, in four designs. Rules are the judge.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import select

from gateway.core.chunked import chunked
from gateway.core.completion import completion_of
from gateway.core.output_tokens import kind_of
from gateway.features.learned.card import CardEvidence, card_lines, card_of
from gateway.features.learned.inclusion import inclusion, scale_for
from gateway.features.learned.rows import CallOutput
from gateway.features.learned.trees.features import EmbeddingColumns, FeatureExtractor, feature_names
from gateway.features.learned.trees.training import Design, TrainingRows, train
from gateway.features.learned.work import learn
from gateway.proxy.limits.estimate import ModelEstimate
from gateway.scorers.embedding import local_minilm
from gateway.scoring.types import Subject
from gateway.statistics.control_variate import controlled_mean
from gateway.store import engine
from gateway.store.rows import exchange_of
from gateway.store.tables import exchanges

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from fixtures.stage_terms import Stage, exchange_terms, stage_sums
from learned_judge import consumed
from learned_tasks import task

Floats = NDArray[np.float64]
SHARES = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
REFERENCE = 0.2
PI_MIN = 0.05
DRAWS = 200
DESIGNS = {
    "neither: equal π, no control variate": (False, False),
    "π(x) alone": (True, False),
    "control variate alone": (False, True),
    "π(x) and control variate": (True, True),
}
"""Title → (π by the model, prediction as control variate)."""


@dataclass(frozen=True)
class Records:
    """Records in order of arrival. truth: shape (n,), in [0, 1]. x: the features, shape (n, k). names: of these."""

    subjects: Sequence[Subject]
    truth: Floats
    x: NDArray[np.float32]
    names: tuple[str, ...] = FeatureExtractor.names

    def embedded(self) -> tuple[Records, float]:
        """The same with MiniLM's columns, and the CPU seconds that they cost for each. Raises InvalidOptions."""
        minilm = EmbeddingColumns(local_minilm())
        minilm.of(self.subjects[:1])  # reads the weights
        found = [minilm.of(batch) for batch in chunked(self.subjects, 256)]
        x = np.hstack((self.x, np.vstack([each.columns for each in found])))
        cpu_s = sum(each.cpu_s for each in found) / len(self.subjects)
        return replace(self, x=x, names=feature_names(embedding=True)), cpu_s

    def without(self, *names: str) -> Records:
        """The same with these features unknown."""
        x = self.x.copy()
        x[:, [FeatureExtractor.names.index(name) for name in names]] = np.nan
        return replace(self, x=x)


@dataclass(frozen=True)
class Widths:
    """Widths of one design, by share: means over the draws."""

    judged: Floats
    fixed: Floats
    always_valid: Floats
    error: Floats
    """Root mean squared error of the estimate of the mean verdict of these records."""


def read(folder: Path) -> Records:
    """Reads a copy of the store, which is brought to the newest version."""
    with TemporaryDirectory() as made:
        copy = Path(made) / "gateway.db"
        with closing(sqlite3.connect(folder / "gateway.db")) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        opened = engine.writer(f"sqlite:///{copy}")
        with opened.connect() as connection:
            e = exchanges.c
            query = select(exchanges).where(e.role == "served", e.outcome == "ok", e.status == 200).order_by(e.received)
            found = [exchange_of(row) for row in connection.execute(query).mappings()]
        opened.dispose()
    subjects = [Subject(each, orjson.loads(each.request), completion_of(each)) for each in found]
    numbers = [int(s.request["metadata"]["task"]) for s in subjects]
    truth = [task(n).rule(s.completion.text) for n, s in zip(numbers, subjects, strict=True)]
    return Records(subjects, np.array(truth), FeatureExtractor().matrix(subjects))


def training_rows(records: Records, of: slice) -> TrainingRows:
    received = np.array([s.exchange.received for s in records.subjects[of]])
    return TrainingRows(records.x[of], records.truth[of], np.ones(len(received)), received)


def measured(records: Records) -> tuple[dict[str, Widths], list[str]]:
    """Widths by design, and the lines of the card."""
    half = len(records.truth) // 2
    past, rest = slice(0, half), slice(half, None)
    design = Design("rules", REFERENCE, PI_MIN, records.names)
    model = train(design, training_rows(records, past), records.x[past]).model
    g, residual = model.predict(records.x[rest])
    h, window = records.truth[rest], model.predict(records.x[past])[1]
    widths = {}
    for title, (guided, controlled) in DESIGNS.items():
        rows = []
        for share in SHARES:
            pi = inclusion(residual, scale_for(window, share, PI_MIN), PI_MIN) if guided else np.full(len(h), share)
            rows.append(_draws(h, g, pi, controlled))
        widths[title] = Widths(*np.array(rows).T)
    pi = np.full(len(h), REFERENCE)
    evidence = CardEvidence(h, g, residual, pi, float(records.truth[past].mean()), records.x[rest], records.x[past])
    card = card_of(evidence, records.names, REFERENCE, PI_MIN)
    return widths, card_lines(card)


def _draws(h: Floats, g: Floats, pi: Floats, controlled: bool) -> tuple[float, float, float, float]:
    """Judged answers, width of the interval for one look, of the always-valid one, and error: means over DRAWS."""
    draw = np.random.default_rng(1)
    found = []
    for _ in range(DRAWS):
        drawn = (draw.random(len(h)) < pi).astype(float)
        rows = exchange_terms(h * drawn, [Stage(drawn, pi, g)])
        e = controlled_mean([stage_sums("all", rows)], controlled=controlled)
        error = np.nan if e.mean is None else (e.mean - h.mean()) ** 2
        found.append((drawn.sum(), e.fixed_high - e.fixed_low, e.high - e.low, error))
    judged, fixed, always, error = np.nanmean(found, axis=0)
    return float(judged), float(fixed), float(always), float(np.sqrt(error))


def needed(of: Widths, width: float, widths: Floats) -> float:
    """The judged answers with which an interval is so wide; interpolated on logarithms. NaN: outside what was tried."""
    if not widths.min() <= width <= widths.max():
        return float("nan")
    return float(np.exp(np.interp(-np.log(width), -np.log(widths), np.log(of.judged))))


def table(widths: dict[str, Widths]) -> Iterator[str]:
    first = next(iter(widths.values()))
    at = SHARES.index(REFERENCE)
    yield "| design | judged, one look | judged, always valid | half width at about the same number | error |"
    yield "|---|---|---|---|---|"
    for title, w in widths.items():
        one = needed(w, float(first.fixed[at]), w.fixed)
        always = needed(w, float(first.always_valid[at]), w.always_valid)
        shares = [f"{n:.0f} ({n / first.judged[at]:.0%})" if np.isfinite(n) else "–" for n in (one, always)]
        near = int(np.argmin(np.abs(w.judged - first.judged[at])))
        half = f"±{w.fixed[near] / 2:.4f} with {w.judged[near]:.0f}"
        yield f"| {title} | {shares[0]} | {shares[1]} | {half} | {w.error[near]:.4f} |"


def reservations(records: Records) -> Iterator[str]:
    """Compares reservations as if the calls had not said max_tokens: learned on the first half, used on the second."""
    calls = [_unlimited(s) for s in records.subjects]
    half = len(calls) // 2
    tables = learn(calls[:half])[calls[0].alias]
    own = ModelEstimate(0.0, 0.0, None)
    for call in calls[:half]:
        own.learn(round(call.tokens))
    rows = []
    for call in calls[half:]:
        kind = kind_of(len(call.request), orjson.loads(call.request), call.stream)
        rows.append((call.tokens, int(own.output), tables[kind]))
        own.learn(round(call.tokens))
    used, by_model, by_kind = np.array(rows, dtype=float).T
    yield "| reservation of output | pinball loss | mean reserved | mean error | calls within it |"
    yield "|---|---|---|---|---|"
    for title, reserved in (("by model", by_model), ("by request", by_kind)):
        short = used - reserved
        loss = np.maximum(0.9 * short, -0.1 * short).mean()
        within = (short <= 0).mean()
        yield f"| {title} | {loss:.2f} | {reserved.mean():.1f} | {np.abs(short).mean():.1f} | {within:.1%} |"


def _unlimited(subject: Subject) -> CallOutput:
    body: dict[str, Any] = {k: v for k, v in subject.request.items() if k != "max_tokens"}
    e, usage = subject.exchange, subject.completion.usage or subject.exchange.usage
    assert usage is not None
    return CallOutput(e.alias, orjson.dumps(body), e.stream, usage.output_tokens, 1.0)


def report(folder: Path) -> str:
    records = read(folder)
    n, half = len(records.truth), len(records.truth) // 2
    lines = [f"{n} records, mean verdict {records.truth.mean():.3f}; trained on {half}, measured on {n - half}.", ""]
    with_minilm, cpu_s = records.embedded()
    designs = {
        "all features": records,
        f"with MiniLM (`embedding: true`), {1e3 * cpu_s:.1f} ms of CPU time an exchange": with_minilm,
        "without log-probabilities": records.without("mean_logprob"),
        "without log-probabilities, with MiniLM": with_minilm.without("mean_logprob"),
    }
    for title, of in designs.items():
        widths, card = measured(of)
        lines += [f"{title}:", "", *table(widths), "", *(f"- {line}" for line in card), ""]
    through = consumed([s.exchange for s in records.subjects])
    return "\n".join([*lines, *reservations(records), "", through, ""])
