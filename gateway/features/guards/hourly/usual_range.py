"""Whether a guard's hits or scores have left their usual range: an alarm whose false-alarm rate is bounded.

Hits come in bursts, so one quarter of an hour is one observation: the share of its calls with a hit, and their mean
score. The usual range comes from the first day of calls with a config, and from a whole week once there is one: it
covers the mean with its error between quarters, each day and each part of the day that differs by more than its own
error, and a quarter more or less of them. A share of one in a hundred falls by little in its own unit, so each value
is also watched on a scale that ends at four times what is usual. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.features.guards.hourly.hours import DAY_S, HOUR_S, QUARTER_S, Hours, Quarter
from gateway.statistics.change_detection import ChangeDetector
from gateway.statistics.special import two_sided_z

ALPHA = 1e-5
"""Error of the alarm: while nothing changes, one comes on average once in 100 000 quarters of an hour at most, which
are 2.8 years."""
REFERENCE = 96
"""Quarters with calls that the usual range comes from at first."""
FEWEST_CALLS = 500
WEEK_S = 7 * DAY_S
"""Seconds after which the range comes from a whole week."""
SETTLED_S = 60.0
"""Seconds after which the calls of a quarter have been stored."""
USUAL_AFTER_S = WEEK_S
"""Seconds after which what an alarm is about is taken as usual."""
READ_S = WEEK_S + DAY_S
"""Seconds of hours that advanced() looks at."""
_ENDS = 5.0  # an alarm ends below this evidence, so that it does not come and go
_MARGIN = 0.25  # of the value: smaller changes are none
_SCALE = 4.0  # times what is usual
_CALLS = 5.0  # calls by which a sum may always differ: of rare hits the range has an end above them
_PARTS = 4  # of a day
What = Literal["hits", "scores"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """One settled quarter of an hour in which the guard judged calls."""

    at: float
    """Beginning of the block, Unix seconds."""
    of: Quarter

    @property
    def values(self) -> tuple[float, float]:
        """The share of hits, and the mean score."""
        return min(1.0, self.of.hits / self.of.judged), min(1.0, self.of.scores / self.of.judged)


@dataclass(frozen=True, slots=True)
class DriftState:
    """State of the alarm of one guard; JSON in the store."""

    config: str
    """The side and the hash of the config."""
    at: float
    """The end of the newest quarter in it, Unix seconds."""
    begun: float
    """The beginning of the oldest quarter that may count for the usual range."""
    usual: tuple[float, float] | None = None
    """The share of hits and the mean score in the usual range; None if it is not known yet."""
    scale: tuple[float, float] = (1.0, 1.0)
    calls: float = 0.0
    """Calls of an ordinary quarter: one with fewer counts less."""
    weekly: bool = False
    """The range comes from a whole week."""
    detector: Mapping[str, Any] | None = None
    since: float | None = None
    """Time of the alarm, Unix seconds; None if there is none."""
    now: tuple[float, float] | None = None
    """The share of hits and the mean score of the newest day."""


@dataclass(frozen=True, slots=True)
class GuardDrift:
    """The alarm of one guard."""

    guard: str
    statistic: float
    """ln of the evidence."""
    limit: float
    """The alarm is on from here."""
    what: What
    """Measure that moved most."""
    direction: Literal["up", "down"]
    usual: float
    now: float
    """Value of the newest day."""
    since: float | None
    """Time of the alarm, Unix seconds; None if there is none."""

    @property
    def alarm(self) -> bool:
        return self.since is not None

    @property
    def id(self) -> str:
        """Id of the alarm."""
        return f"guard:{self.guard}:drift:{self.since or 0.0:.0f}"


def blocks_of(hours: Hours, config: str, after: float, until: float) -> list[Block]:
    """The quarters with judged calls that begin from `after` on and end by `until`, in order. Unix seconds."""
    return sorted(_blocks(hours, config, after, until), key=lambda block: block.at)


def _blocks(hours: Hours, config: str, after: float, until: float) -> Iterator[Block]:
    for begin, of in hours.items():
        for hour in of:
            if config_of(hour.on, hour.config_hash) == config and begin + HOUR_S > after:
                for i, quarter in enumerate(hour.quarters):
                    at = begin + i * QUARTER_S
                    if at >= after and at + QUARTER_S <= until and quarter.judged > 0:
                        yield Block(at, quarter)


def config_of(on: str, config_hash: str) -> str:
    return f"{on} {config_hash}"


def advanced(before: DriftState | None, config: str, hours: Hours, read_at: float) -> DriftState:
    """Takes what has settled since then into the alarm. hours: those of READ_S. read_at: when they were
    read, Unix seconds."""
    until = (read_at - SETTLED_S) // QUARTER_S * QUARTER_S
    if before is None or before.config != config:
        known = [hour.first for of in hours.values() for hour in of if config_of(hour.on, hour.config_hash) == config]
        begun = min(known, default=until) // QUARTER_S * QUARTER_S
        before = DriftState(config, begun, begun)
    if before.since is not None and read_at - before.since >= USUAL_AFTER_S:
        before = DriftState(config, before.at, before.since)
    before = _with_range(before, hours, until)
    if before.detector is None:
        return before
    new = blocks_of(hours, config, before.at, until)
    detector = ChangeDetector.from_state(before.detector)
    for block in new:
        detector.add(_values([block], before.scale), _weights([block], before.calls))
    at = new[-1].at + QUARTER_S if new else before.at
    begins = at if detector.alarm else None
    since = begins if before.since is None else before.since if detector.log_statistic >= _ENDS else None
    day = blocks_of(hours, config, at - DAY_S, at)
    return replace(before, at=at, detector=detector.state(), since=since, now=_means(day) if day else before.now)


def _with_range(state: DriftState, hours: Hours, until: float) -> DriftState:
    """The state with a usual range, if there are enough quarters; with that of a week, once there is one."""
    weekly = until - state.begun >= WEEK_S
    if state.since is not None or (state.detector is not None and weekly == state.weekly):
        return state
    blocks = _reference(blocks_of(hours, state.config, state.begun, until), state.begun + WEEK_S if weekly else None)
    if not blocks:
        return state
    calls = sum(block.of.n for block in blocks)
    ordinary = float(np.median([block.of.judged for block in blocks]))
    usual = _means(blocks)
    scale = (_scale(usual[0]), _scale(usual[1]))
    low, high = _range(blocks, scale, ordinary, calls)
    detector = ChangeDetector(low, high, ALPHA)
    known: dict[str, Any] = {"usual": usual, "scale": scale, "calls": ordinary, "weekly": weekly, "now": usual}
    return replace(state, at=blocks[-1].at + QUARTER_S, detector=detector.state(), **known)


def _reference(blocks: Sequence[Block], end: float | None) -> Sequence[Block]:
    """Blocks that the usual range comes from: of a week, all before its end; otherwise the first that are enough.
    Empty: they are not."""
    if end is not None:
        blocks = [block for block in blocks if block.at < end]
    calls = 0
    for n, block in enumerate(blocks, 1):
        calls += block.of.n
        if n >= REFERENCE and calls >= FEWEST_CALLS:
            return blocks[:n] if end is None else blocks
    return ()


def _scale(usual: float) -> float:
    return min(1.0, _SCALE * usual) or 1.0


def _means(blocks: Sequence[Block]) -> tuple[float, float]:
    judged = sum(block.of.judged for block in blocks)
    hits, scores = sum(block.of.hits for block in blocks), sum(block.of.scores for block in blocks)
    return min(1.0, hits / judged), min(1.0, scores / judged)


def _values(blocks: Sequence[Block], scale: tuple[float, float]) -> Floats:
    """Shape (n, 4): hits and scores in their own unit, and both on their scale."""
    own = np.array([block.values for block in blocks])
    return np.concatenate([own, np.minimum(1.0, own / np.array(scale))], axis=1)


def _weights(blocks: Sequence[Block], ordinary: float) -> Floats:
    return np.minimum(1.0, np.array([block.of.judged for block in blocks]) / ordinary)


def _range(blocks: Sequence[Block], scale: tuple[float, float], ordinary: float, calls: int) -> tuple[Floats, Floats]:
    """(low, high) of the four means."""
    x, w = _values(blocks, scale), _weights(blocks, ordinary)
    mean, error = _mean_and_error(x, w)
    low, high = mean - error, mean + error
    for mine in _groups(blocks):
        of_group, its_error = _mean_and_error(x[mine], w[mine])
        low, high = np.minimum(low, of_group + its_error), np.maximum(high, of_group - its_error)
    few = np.array([_CALLS / calls * by for by in (1.0, 1.0, 1.0 / scale[0], 1.0 / scale[1])])
    return np.clip(low * (1.0 - _MARGIN), 0.0, 1.0), np.clip(high * (1.0 + _MARGIN) + few, 0.0, 1.0)


def _mean_and_error(x: Floats, w: Floats) -> tuple[Floats, Floats]:
    """The weighted means, and 2.6 times their standard errors."""
    mean = w @ x / w.sum()
    return mean, two_sided_z(0.01) * np.sqrt((w**2) @ (x - mean) ** 2) / w.sum()


def _groups(blocks: Sequence[Block]) -> Iterator[NDArray[np.bool_]]:
    """The quarters of each day, and of each part of the day, of those that have a third as many as they could."""
    at = np.array([block.at for block in blocks])
    part = DAY_S / _PARTS
    for names in (at // DAY_S, at % DAY_S // part):
        for name in np.unique(names):
            mine: NDArray[np.bool_] = names == name
            if mine.sum() >= part / QUARTER_S / 3:
                yield mine


def drift_of(guard: str, state: DriftState | None) -> GuardDrift | None:
    """The alarm; None if the usual range is not known yet."""
    if state is None or state.detector is None or state.usual is None:
        return None
    detector = ChangeDetector.from_state(state.detector)
    stream, direction = detector.largest()
    what: What = "hits" if stream % 2 == 0 else "scores"
    now = state.now or state.usual
    return GuardDrift(
        guard,
        detector.log_statistic,
        detector.limit,
        what,
        direction,
        state.usual[stream % 2],
        now[stream % 2],
        state.since,
    )


def drift_sentence(of: GuardDrift) -> str:
    """ "the share of hits rose from 1.2 % to 4.1 %"."""
    what = "the share of hits" if of.what == "hits" else "the mean score"
    verb = "rose" if of.direction == "up" else "fell"
    return f"{what} {verb} from {_said(of.what, of.usual)} to {_said(of.what, of.now)}"


def _said(what: What, value: float) -> str:
    return f"{100 * value:.3g}\u202f%" if what == "hits" else f"{value:.3g}"


def state_to_json(state: DriftState) -> str:
    return orjson.dumps(asdict(state)).decode()


def state_from_json(text: str) -> DriftState:
    row = orjson.loads(text)
    pairs = {name: None if row[name] is None else tuple(row[name]) for name in ("usual", "scale", "now")}
    return DriftState(**{**row, **pairs})
