"""The alarm of a route that serves: a leaf that is shown to lose too much on watched calls.

The loss that each leaf may have on its own requests is the one with which all moved requests together lose the route's
margin over all traffic: the margin divided by the share that moves. The alarm of a leaf is a confidence sequence that
restarts, so it holds at every look, and all leaves of a route share its alpha, over MOST_WATCHED pairs.

Pairs of one session depend on each other, so a session's mean is one value (rules 3). A session is a conversation, else
what a user sends until 30 quiet minutes or 4 hours, else a quarter of an hour of a key; while it lasts, its mean so far
counts. Watches of older rules count each pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gateway.core.horizon import guarded
from gateway.core.learned_route import LearnedRoute
from gateway.core.plan import CONVERSATION_QUIET_S, UNITS_FIRST_RULES
from gateway.features.route.rows import WatchedPair, WatchedPairs
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.dependence import BLOCK_S
from gateway.statistics.hybrid import guarded_half_width
from gateway.statistics.moments import Moments
from gateway.statistics.special import normal_quantile, student_quantile
from gateway.verdict.sequences.independence import ConversationMeans

_TIGHTEST = 100.0  # pairs at which the interval is narrowest
RESTART_PAIRS = 100
_TIGHTEST_SESSIONS = 50.0
RESTART_SESSIONS = 20
_FEWEST_SESSIONS = 10.0
_STUDENT = 100  # sessions below which Student's quantile is used
SESSION_S = 4 * 3600.0
"""The longest session of one user."""


@dataclass(frozen=True, slots=True)
class WatchedLeaf:
    """The watch's evidence on one leaf."""

    leaf: int
    pairs: int
    """Pairs since the beginning that speaks most against it."""
    loss: float
    low: float
    """Lower bound of the loss, valid at every look."""
    tolerated: float

    @property
    def alarm(self) -> bool:
        return self.low > self.tolerated


def tolerated_loss(route: LearnedRoute) -> float:
    """The mean loss of a moved request with which all of them together lose the margin."""
    moved = sum(leaf.share for leaf in route.leaves if leaf.moved)
    return float(route.evidence["margin"]) / max(moved, 1e-9)


def watched_leaves(route: LearnedRoute, watched: WatchedPairs) -> list[WatchedLeaf]:
    """The evidence on each leaf with a watched pair, by its rules."""
    by_leaf: dict[int, list[WatchedPair]] = {}
    for pair in watched.pairs:
        name, _, leaf = pair.label.rpartition("/")
        if name == route.name and leaf.isdigit() and int(leaf) < len(route.leaves):
            by_leaf.setdefault(int(leaf), []).append(pair)
    alpha = float(route.evidence["alpha"]) / max(1, sum(leaf.moved for leaf in route.leaves))
    tolerated, looks = tolerated_loss(route), _by_session if watched.rules >= UNITS_FIRST_RULES else _by_pair
    found = ((leaf, max(looks(pairs, alpha), key=lambda look: look.low)) for leaf, pairs in sorted(by_leaf.items()))
    return [WatchedLeaf(leaf, look.pairs, look.loss, look.low, tolerated) for leaf, look in found]


@dataclass(frozen=True, slots=True)
class _Look:
    """The pairs since one beginning. low: of the mean loss."""

    pairs: int
    loss: float
    low: float


def _by_pair(pairs: Sequence[WatchedPair], alpha: float) -> Iterator[_Look]:
    """The pairs since the beginning and since each multiple of RESTART_PAIRS.

    After a long period without loss, a fault would hardly change the mean of all pairs. The j-th beginning has alpha /
    (j (j + 1)), which add up to alpha. Source: confidence sequences from several times on, Shin, Ramdas & Rinaldo 2022
    (arXiv:2203.03532).
    """
    of = Moments()
    for i in range(len(pairs) - 1, -1, -1):
        of = of.add(pairs[i].loss)
        if i % RESTART_PAIRS == 0:
            half = guarded_half_width(2 * _share(alpha, i // RESTART_PAIRS), _TIGHTEST, of.n, of.m2, 1.0)
            yield _Look(of.n, of.mean, of.mean - half)


def _by_session(pairs: Sequence[WatchedPair], alpha: float) -> Iterator[_Look]:
    """The same since each multiple of RESTART_SESSIONS, on the means of sessions."""
    sessions = sessions_of(pairs)
    of, calls = Moments(), ConversationMeans()
    for i in range(len(sessions) - 1, -1, -1):
        losses = sessions[i].losses
        of = of.add(math.fsum(losses) / len(losses))
        calls.calls += len(losses)
        calls.total += math.fsum(losses)
        calls.squares += math.fsum(loss * loss for loss in losses)
        if i % RESTART_SESSIONS == 0:
            half = _half_width(of, calls.scale(of.n, of.variance()), 2 * _share(alpha, i // RESTART_SESSIONS))
            yield _Look(calls.calls, of.mean, of.mean - half)


def _share(alpha: float, beginning: int) -> float:
    return alpha / ((beginning + 1) * (beginning + 2))


def _half_width(of: Moments, largest: float, alpha: float) -> float:
    """Half of the width for the mean of sessions. largest: the largest deviation of one of them."""
    if of.n < _FEWEST_SESSIONS:
        return math.inf
    deviation = math.sqrt(guarded(of.m2, largest) / of.n)
    if of.n < _STUDENT:
        p = 1 - alpha / 2
        deviation *= student_quantile(p, of.n - 1) / normal_quantile(p)
    return half_width(deviation, of.n, Tuning(alpha, _TIGHTEST_SESSIONS, _FEWEST_SESSIONS))


@dataclass(slots=True)
class Session:
    """Losses that may depend on each other. first, last: times of its calls."""

    first: float
    last: float
    losses: list[float] = field(default_factory=list)

    def holds(self, at: float) -> bool:
        """Whether a call of this time still belongs to it."""
        return at - self.last <= CONVERSATION_QUIET_S and at - self.first <= SESSION_S


def sessions_of(pairs: Iterable[WatchedPair]) -> list[Session]:
    """The sessions, in the order of their first calls. pairs: in order."""
    sessions: list[Session] = []
    newest: dict[tuple[str, str], Session] = {}
    for pair in pairs:
        unit = _unit(pair)
        session = newest.get(unit)
        if session is None or (unit[0] == "user" and not session.holds(pair.at)):
            session = newest[unit] = Session(pair.at, pair.at)
            sessions.append(session)
        session.last = max(session.last, pair.at)
        session.losses.append(pair.loss)
    return sessions


def _unit(pair: WatchedPair) -> tuple[str, str]:
    """The kind and name of the unit that a pair belongs to."""
    if pair.conversation is not None:
        return "conversation", pair.conversation
    if pair.user is not None:
        return "user", f"{pair.caller}\0{pair.user}"
    return "block", f"{pair.caller}\0{int(pair.at // BLOCK_S)}"
