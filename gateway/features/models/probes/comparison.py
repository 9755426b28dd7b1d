"""A round of answers against the rounds before it. Pure.

Five measures are compared, each request with its own past: equal answers at temperature 0; the answers as served, by
their common beginnings; their lengths and tokens; log-probabilities, where the engine gives them. What is permuted is
the round of a request (statistics/round_permutation.py), so that the repeats of one round are the control: noise of
sampling, and what the answers of a round have in common, do not count as a change. The error is divided over measures,
targets and rounds (Bonferroni), so that a deployment has at most FALSE_EVENTS wrong events in a quarter on average; and
a round that differs is only suspected until the next one differs as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from gateway.features.models.probes.model import Mode, ProbeAnswer, ProbeRound
from gateway.reports import number_format as say
from gateway.statistics.round_permutation import RoundScores, kernel_scores, permutation_p, rank_scores

FALSE_EVENTS = 0.1
QUARTER_S = 91 * 86_400.0
LEAST_ROUNDS = 3
"""Rounds of the baseline before anything is compared."""
MOST_ROUNDS = 14
"""Rounds of the baseline: the first ones, so that a slow change is not absorbed."""
CONFIRMED = 0.01
"""Level of the round after a suspicion."""
MEASURES = ("answers", "served", "length", "tokens", "logprob")
_NUMBERS = {"length": "characters", "tokens": "output tokens", "logprob": "mean log-probability"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of a round against its baseline."""

    p: float
    text: str


@dataclass(frozen=True, slots=True)
class _Cells:
    """The answers of one request in the baseline and the newest round."""

    answers: Sequence[ProbeAnswer]
    rounds: Sequence[int]

    @property
    def newest(self) -> NDArray[np.bool_]:
        labels = np.asarray(self.rounds)
        return np.asarray(labels == labels.max())


def error_level(targets: int, every_s: float) -> float:
    """The error probability of one measure of one round."""
    return FALSE_EVENTS / (len(MEASURES) * max(1, targets) * QUARTER_S / every_s)


def judged(new: ProbeRound, past: Sequence[ProbeRound], level: float) -> ProbeRound:
    """The round with its result. past: of the same target, oldest first."""
    known = _since_change([of for of in past if of.is_usable and of.definition == new.definition])
    baseline = [of for of in known if of.result != "suspected"][:MOST_ROUNDS]
    if len(baseline) < LEAST_ROUNDS:
        return replace(new, result="baseline", text=f"round {len(baseline) + 1} of {LEAST_ROUNDS} of the baseline")
    found = dict(differences(new, baseline))
    before = known[-1].measures if known[-1].result == "suspected" else ()
    confirmed = tuple(name for name in before if name in found and found[name].p <= CONFIRMED)
    extreme = tuple(name for name, of in found.items() if of.p <= level)
    if confirmed:
        named = tuple(name for name in found if name in confirmed or name in extreme)
        return replace(new, result="changed", measures=named, text=_text(found, named))
    if extreme:
        return replace(new, result="suspected", measures=extreme, text=_text(found, extreme))
    return replace(new, result="same", text=found["answers"].text if "answers" in found else "")


def _text(found: Mapping[str, Difference], names: Sequence[str]) -> str:
    return "; ".join(found[name].text for name in names)


def _since_change(past: Sequence[ProbeRound]) -> list[ProbeRound]:
    """The rounds from the newest change on. The suspected round that it confirmed becomes one of the new baseline."""
    for at in range(len(past) - 1, -1, -1):
        if past[at].result == "changed":
            first = at - 1 if at and past[at - 1].result == "suspected" else at
            return [*(replace(of, result="baseline") for of in past[first : at + 1]), *past[at + 1 :]]
    return list(past)


def differences(new: ProbeRound, baseline: Sequence[ProbeRound]) -> Iterator[tuple[str, Difference]]:
    """Yields the measures that both sides have."""
    exact, served = _cells(new, baseline, "exact"), _cells(new, baseline, "served")
    for name, cells, kernel in (("answers", exact, _equal), ("served", served, _common)):
        if cells:
            yield name, _alike(cells, kernel, "at temperature 0" if name == "answers" else "as served")
    for name, cells in (("length", served), ("tokens", served), ("logprob", exact)):
        if known := [of for of in cells if all(getattr(answer, name) is not None for answer in of.answers)]:
            yield name, _moved(known, name)


def _cells(new: ProbeRound, baseline: Sequence[ProbeRound], mode: Mode) -> list[_Cells]:
    by_round = [_by_key(of, mode) for of in (*baseline, new)]
    found = []
    for key in by_round[-1]:
        of_key = [(at, answers[key]) for at, answers in enumerate(by_round) if len(answers.get(key, ())) > 1]
        if len(of_key) > LEAST_ROUNDS and of_key[-1][0] == len(baseline):
            rounds = [at for at, answers in of_key for _ in answers]
            found.append(_Cells([answer for _, answers in of_key for answer in answers], rounds))
    return found


def _by_key(of: ProbeRound, mode: Mode) -> dict[str, list[ProbeAnswer]]:
    found: dict[str, list[ProbeAnswer]] = {}
    for answer in of.answers:
        if answer.mode == mode:
            found.setdefault(answer.key, []).append(answer)
    return found


def _equal(answers: Sequence[ProbeAnswer]) -> NDArray[np.float64]:
    """1 where two answers are equal."""
    return _same([answer.digest for answer in answers])


def _common(answers: Sequence[ProbeAnswer]) -> NDArray[np.float64]:
    """The share of two answers' beginnings of 1, 2, 4, … words that are equal, and of the whole: a sum of kernels."""
    parts = [*zip(*(answer.prefixes for answer in answers), strict=True), [answer.digest for answer in answers]]
    return np.asarray(np.mean([_same(part) for part in parts], axis=0))


def _same(names: Sequence[str]) -> NDArray[np.float64]:
    codes = np.unique(np.array(names), return_inverse=True)[1]
    return np.asarray(codes[:, None] == codes[None, :], dtype=np.float64)


def _alike(
    cells: Sequence[_Cells], kernel: Callable[[Sequence[ProbeAnswer]], NDArray[np.float64]], when: str
) -> Difference:
    scores, repeats, before, usual = [], [], [], []
    for of in cells:
        gram = kernel(of.answers)
        scores.append(kernel_scores(gram, of.rounds))
        new, labels = of.newest, np.asarray(of.rounds)
        repeats.append(_mean_pairs(gram[new][:, new]))
        before.append(float(gram[new][:, ~new].mean()))
        usual.append(float(gram[~new][:, ~new][labels[~new][:, None] != labels[~new][None, :]].mean()))
    text = (
        f"{when}, answers agree to {say.share(fmean(before))} with those of the days before, which agree to "
        f"{say.share(fmean(usual))} with each other; its own repeats to {say.share(fmean(repeats))}"
    )
    return Difference(permutation_p(scores), text)


def _mean_pairs(gram: NDArray[np.float64]) -> float:
    n = len(gram)
    return float((gram.sum() - np.trace(gram)) / (n * (n - 1)))


def _moved(cells: Sequence[_Cells], name: str) -> Difference:
    up, down, before, now = list[RoundScores](), list[RoundScores](), [], []
    for of in cells:
        values = np.array([getattr(answer, name) for answer in of.answers], dtype=np.float64)
        up.append(rank_scores(values, of.rounds))
        down.append(rank_scores(-values, of.rounds))
        before.append(float(values[~of.newest].mean()))
        now.append(float(values[of.newest].mean()))
    p = min(1.0, 2.0 * min(permutation_p(up), permutation_p(down)))
    return Difference(p, f"{_NUMBERS[name]}: {fmean(now):.4g} on average, {fmean(before):.4g} before")
