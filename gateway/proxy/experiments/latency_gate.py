"""Whether an experiment's shadows slow the answers that clients wait for. Pure: times come in.

Comparing calls during which shadows ran with those during which none did says nothing: shadows run when there is much
traffic, and then everything is slower. So shadows are stopped for a moment now and then, and what comes then is
compared with what came just before:

  spell     A quiet spell is held in the first 20 s of a slot of 120 s of the wall clock, so that all gateways and
            workers that hold one hold it together; a shadow asked elsewhere loads the same model. It is held when 100
            answers have come beside shadows since the last one and either the last comparison is 10 minutes old, or
            the tail looks longer than it was in the last spell.
  compare   The answers beside shadows (the last 300) with those of the spell: of k + x pooled slowest answers, fewer
            than k are of the spell, which has under exchangeability an exact (hypergeometric) probability; k is 1 % of
            the spell's answers. At p < 0.001, and with a p99 at least a fifth higher, the shadows are at fault.
  pause     Then shadows pause for 60 s, and twice as long each time it happens again, up to an hour; a comparison that
            finds nothing sets that back. With fewer than 50 answers in a spell nothing is concluded.

Streams are compared by their first token, plain answers by their whole time: two comparisons, and either may pause.
"""

from __future__ import annotations

from collections import deque
from math import comb

from gateway.core.backoff import Backoff

SLOT_S, SPELL_S, STALE_S = 120.0, 20.0, 600.0
BESIDE, LEAST_BESIDE, LEAST_QUIET = 300, 100, 50
PAUSE = Backoff(first_s=60.0, most_s=3600.0)
P_VALUE, RATIO = 1e-3, 1.2


class LatencyGate:
    """Of one experiment, in one process. `now` is Unix seconds throughout. open: shadows may be offered."""

    def __init__(self) -> None:
        self.open = True
        self.paused_until = 0.0
        self._series = (LatencySeries(), LatencySeries())  # streams, plain answers
        self._pauses = 0  # in a row, without a comparison that found nothing between them
        self._spell_until: float | None = None  # None: no spell is held
        self._quiet_since: float | None = None  # in a spell: since when no shadow runs
        self._compared_at = 0.0
        self._running = 0
        self._ran_until = -1.0  # when the last shadow ended

    @property
    def paused(self) -> bool:
        """At fault, and not only being looked at."""
        return self.paused_until > 0.0

    def began(self) -> None:
        self._running += 1

    def ended(self, now: float) -> None:
        self._running -= 1
        self._ran_until = now

    def answered(self, stream: bool, began: float, now: float, seconds: float) -> None:
        """A served answer has ended. began, now: of the call; seconds: until its first token, or its end."""
        series = self._series[0 if stream else 1]
        if self._quiet_since is not None:
            if began >= self._quiet_since:
                series.quiet.append(seconds)
        elif self._running or self._ran_until >= began:
            series.beside.append(seconds)
            series.since += 1

    def tick(self, now: float) -> None:
        """To be called each second or so."""
        if self.paused:
            if now >= self.paused_until:
                self.paused_until = 0.0
                self._reopen()
        elif self._spell_until is not None:
            self._in_spell(now)
        elif now % SLOT_S < SPELL_S / 2 and self._wants_a_spell(now):
            self.open = False
            self._spell_until = now - now % SLOT_S + SPELL_S
            self._in_spell(now)

    def _wants_a_spell(self, now: float) -> bool:
        enough = any(series.since >= LEAST_BESIDE for series in self._series)
        return enough and (now - self._compared_at >= STALE_S or any(series.longer() for series in self._series))

    def _in_spell(self, now: float) -> None:
        if self._quiet_since is None and not self._running:
            self._quiet_since = now
        if self._spell_until is not None and now >= self._spell_until:
            self._compare(now)

    def _compare(self, now: float) -> None:
        at_fault = any(series.longer(fresh=True) for series in self._series)
        if any(len(series.quiet) >= LEAST_QUIET for series in self._series):
            self._compared_at = now
            self._pauses = self._pauses if at_fault else 0
        for series in self._series:
            series.turn()
        self._spell_until = self._quiet_since = None
        if at_fault:
            self.open = False
            self._pauses += 1
            self.paused_until = now + PAUSE.wait_s(self._pauses)
        else:
            self._reopen()

    def _reopen(self) -> None:
        self.open = True


class LatencySeries:
    """Times of one kind of answer. beside: while shadows ran; quiet: of the spell that is held; reference: of the last
    one that had enough. since: how many came beside shadows since it."""

    def __init__(self) -> None:
        self.beside: deque[float] = deque(maxlen=BESIDE)
        self.quiet: list[float] = []
        self.reference: list[float] = []
        self.since = 0

    def longer(self, *, fresh: bool = False) -> bool:
        """Whether the tail beside shadows is longer than in the last spell. fresh: than in the one that is held."""
        quiet = self.quiet if fresh else self.reference
        if len(quiet) < LEAST_QUIET or len(self.beside) < LEAST_BESIDE:
            return False
        return tail_is_longer(list(self.beside), quiet)

    def turn(self) -> None:
        """The spell is over."""
        if len(self.quiet) >= LEAST_QUIET:
            self.reference = self.quiet
        self.quiet = []
        self.beside.clear()
        self.since = 0


def tail_is_longer(beside: list[float], quiet: list[float]) -> bool:
    """Significantly, and by enough to matter."""
    k = max(1, len(quiet) // 100)
    bound = sorted(quiet)[-k]
    above = sum(seconds > bound for seconds in beside)
    high = sorted(beside)[-max(1, len(beside) // 100)]
    return high >= RATIO * bound and tail_p(above, len(beside), k, len(quiet)) < P_VALUE


def tail_p(above: int, n: int, k: int, m: int) -> float:
    """P(at least `above` of n values exceed the k-th largest of m others), when all n + m are exchangeable.

    Exactly when among the above + k - 1 largest of all, fewer than k are of the m: hypergeometric. above: in 0 … n;
    k: in 1 … m. Ties count as not exceeding, which only makes it larger.
    """
    if above == 0:
        return 1.0
    top = above + k - 1
    ways = sum(comb(m, i) * comb(n, top - i) for i in range(k) if top - i <= n)
    return ways / comb(n + m, top)
