"""The metrics of served answers: one value an answer, NaN where it does not apply."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway.core.exchange import CLIENT_ENDED
from gateway.core.plan import RUN_METRICS
from gateway.core.request_refusals import REFUSED, REFUSING_STATUSES
from gateway.core.served_answer import AnswerScores, ScoredRow, ScoresByScorer, ServedAnswer
from gateway.statistics.domains import Floats
from gateway.verdict.gates.client_left import LEFT
from gateway.verdict.metrics import ANSWERED


@dataclass(frozen=True, slots=True)
class ArmOutcomes:
    """One metric's values on n records of both arms."""

    metric: str
    values: Floats  # shape (n,), in the metric's unit; NaN: it does not apply
    sign: float  # 1: more is better; -1 means that less is better
    bounded: bool  # values are in [0, 1]
    responded: Sequence[bool] | None = None  # records that count in n_h: all but failed scorings; None: all
    unscored: Sequence[bool] | None = None  # records whose scoring failed; None if it is not a score
    of_runs: bool = False  # a value is of a whole run, on the record that stands for it


def with_left(rows: Sequence[ServedAnswer], gone: Sequence[ServedAnswer]) -> tuple[list[ServedAnswer], ArmOutcomes]:
    """Returns all answers in order of arrival, and which of them a client did not wait for."""
    everybody = sorted([*rows, *gone], key=lambda row: (row.received, row.id))
    return everybody, ArmOutcomes(LEFT, np.array([float(row.outcome in CLIENT_ENDED) for row in everybody]), -1.0, True)


def outcomes(rows: Sequence[ServedAnswer], scores: AnswerScores) -> list[ArmOutcomes]:
    """Every metric of these records: the built-in ones, and the newest version of each scorer."""
    failed = np.array([float(has_failed(row)) for row in rows])
    found = [
        ArmOutcomes("error_rate", failed, -1.0, True),
        ArmOutcomes("completion", 1.0 - failed, 1.0, True),
        ArmOutcomes("total_s", column(rows, "total_s", timeouts=True), -1.0, False),
        ArmOutcomes("first_token_s", column(rows, "first_token_s"), -1.0, False),
        ArmOutcomes("cost_per_1k", 1000 * column(rows, "cost_usd"), -1.0, False),
        ArmOutcomes("output_tokens", column(rows, "output_tokens"), -1.0, False),
    ]
    for scorer, scored in sorted(scores.answers.items()):
        newest = list(scored.values())[-1][2]
        values = [_score(row, scored.get(row.id), newest) for row in rows]
        if any(not math.isnan(v) for v in values):
            answered = [_responded(scored.get(row.id), newest) for row in rows]
            broken = [_unscored(scored.get(row.id), newest) for row in rows]
            found.append(ArmOutcomes(scorer, np.array(values), 1.0, True, answered, broken))
    return [*found, *_scored_runs(rows, scores.runs)]


def _scored_runs(rows: Sequence[ServedAnswer], by_scorer: ScoresByScorer) -> Iterator[ArmOutcomes]:
    """The newest version of each scorer of runs. A failed call does not make its run a failed one: the scorer decides
    that."""
    for scorer, scores in sorted(by_scorer.items()):
        newest = list(scores.values())[-1][2]
        found = [scores.get(row.id) for row in rows]
        answered = [_responded(score, newest) for score in found]
        known = [score if is_one else None for score, is_one in zip(found, answered, strict=True)]
        values = np.array([math.nan if score is None or score[1] is None else score[1] for score in known])
        if not np.isnan(values).all():
            broken = [_unscored(score, newest) for score in found]
            yield ArmOutcomes(scorer, values, 1.0, True, answered, broken, of_runs=True)


def run_totals(rows: Sequence[ServedAnswer], ended_before: float) -> list[ArmOutcomes]:
    """Calls, tokens and cost of each run without a call since `ended_before` (Unix seconds), on its first record."""
    calls: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        calls.setdefault(row.unit, []).append(i)
    sums = {name: np.full(len(rows), math.nan) for name in RUN_METRICS}
    for at in calls.values():
        if max(rows[i].received + rows[i].total_s for i in at) >= ended_before:
            continue
        of = [rows[i] for i in at]
        totals = (float(len(of)), _total(row.tokens for row in of), _total(row.cost_usd for row in of))
        for name, total in zip(RUN_METRICS, totals, strict=True):
            sums[name][at[0]] = total
    return [ArmOutcomes(name, values, -1.0, False, of_runs=True) for name, values in sums.items()]


def _total(values: Iterable[float | None]) -> float:
    """NaN where a part is unknown."""
    found = list(values)
    return math.nan if any(value is None for value in found) else math.fsum(value or 0.0 for value in found)


def has_failed(row: ServedAnswer) -> bool:
    return row.outcome != "ok" or row.status >= 400 or row.empty


def without_cut(rows: Sequence[ServedAnswer], of: ArmOutcomes) -> ArmOutcomes:
    """A scorer's values without those of answers whose record was cut: it has not read them completely."""
    cut = cut_scores(rows, of)
    return of if cut is None else replace(of, values=np.where(cut, np.nan, of.values))


def cut_scores(rows: Sequence[ServedAnswer], of: ArmOutcomes) -> NDArray[np.bool_] | None:
    """Flags, shape (n,): the answer's record was cut, though its scorer has looked at it. None if there is no score."""
    if of.responded is None or of.of_runs:
        return None
    cut = [row.truncated and not has_failed(row) for row in rows]
    return np.array(cut, dtype=np.bool_) & np.array(of.responded, dtype=np.bool_)


def refuses(row: ServedAnswer) -> bool:
    """Whether the upstream refused the request itself, which says nothing about the arm (core/request_refusals.py)."""
    return row.status in REFUSING_STATUSES and row.outcome != "ok"


def refusals_apart(found: Sequence[ArmOutcomes], refused: Sequence[bool]) -> list[ArmOutcomes]:
    """The metrics without the answers that refuse their request, and the share of these as a metric of its own."""
    out = np.array(refused, dtype=np.bool_)
    apart = [each if each.of_runs else replace(each, values=np.where(out, np.nan, each.values)) for each in found]
    return [*apart, ArmOutcomes(REFUSED, out.astype(np.float64), -1.0, True)]


def column(rows: Sequence[ServedAnswer], name: str, *, timeouts: bool = False) -> Floats:
    def value(row: ServedAnswer) -> float:
        found = getattr(row, name)
        kept_ = not has_failed(row) or (timeouts and row.outcome == "timeout")
        return math.nan if found is None or not kept_ else float(found)

    return np.array([value(row) for row in rows])


def _responded(score: ScoredRow | None, identity: str) -> bool:
    return score is not None and score[2] == identity and score[0] in ANSWERED


def _unscored(score: ScoredRow | None, identity: str) -> bool:
    """Whether its scorer was asked, and failed: a judge that cannot read long answers fails on these."""
    return score is not None and score[2] == identity and score[0] not in ANSWERED


def without_score(rows: Sequence[ServedAnswer], of: ArmOutcomes) -> NDArray[np.bool_]:
    """Flags, shape (n,): the scorer looked at a whole answer and gave no value: it does not apply, or it failed."""
    if of.responded is None:
        return np.zeros(len(rows), dtype=np.bool_)
    looked = np.array(of.responded, dtype=np.bool_) | np.array(of.unscored or np.zeros(len(rows)), dtype=np.bool_)
    failed = np.array([has_failed(row) for row in rows], dtype=np.bool_)
    return looked & np.isnan(of.values) & ~failed


def _score(row: ServedAnswer, score: ScoredRow | None, identity: str) -> float:
    if score is None or not _responded(score, identity):
        return math.nan
    if has_failed(row):
        return 0.0
    return math.nan if score[1] is None else score[1]
