"""Whether an experiment's shadows slow down the answers that clients wait for. Pure: times are passed in.

Comparing calls that ran together with shadows to calls that did not would be misleading: shadows run when there is much
traffic, and then everything is slower. So shadows are stopped for a moment now and then, and the answers of that time
are compared with those just before:

  quiet spell  The first 20 s of a 120 s slot of the wall clock, so that all gateways and workers are quiet together (a
               shadow of another process loads the same model). A slot has one if 100 answers have ended with shadows
               running since the last spell, and either the last comparison is 10 minutes old or the tail looks longer
               than in the last spell.
  comparison   The last 300 answers with shadows against those of the spell. Among the k + x slowest of both, fewer than
               k are of the spell; under exchangeability this has an exact (hypergeometric) probability; k is 1 % of the
               spell's answers. With p < 0.001 and a p99 at least a fifth higher, the shadows are at fault.
  pause        Then shadows pause for 60 s, and twice as long each further time, up to an hour; a comparison that finds
               nothing resets this. Fewer than 50 answers in a spell allow no conclusion.

Streams are compared by the time to their first token, plain answers by their total time; either may cause a pause.
"""

from __future__ import annotations

from collections import deque
from math import comb

from gateway.core.backoff import Backoff

SLOT_S, SPELL_S, STALE_S = 120.0, 20.0, 600.0
WITH_SHADOWS, MIN_WITH_SHADOWS, MIN_QUIET = 300, 100, 50
PAUSE = Backoff(first_s=60.0, most_s=3600.0)
P_VALUE, RATIO = 1e-3, 1.2


class LatencyGate:
    """The gate of one experiment in one process. `now` is in Unix seconds throughout."""

    def __init__(self) -> None:
        self.open = True
        """Shadows may be sent."""
        self.paused_until = 0.0
        self.streams = LatencySeries()
        self.plain = LatencySeries()
        self._series = (self.streams, self.plain)
        self._pauses = 0  # in a row, without a comparison that found nothing between them
        self._spell_until: float | None = None  # None: there is no quiet spell
        self._quiet_since: float | None = None  # in a spell: since when no shadow has been running
        self._compared_at = 0.0
        self._running = 0
        self._ran_until = -1.0  # when the last shadow ended

    @property
    def paused(self) -> bool:
        """The shadows were found at fault; a quiet spell alone is not a pause."""
        return self.paused_until > 0.0

    def began(self) -> None:
        self._running += 1

    def ended(self, now: float) -> None:
        self._running -= 1
        self._ran_until = now

    def answered(self, stream: bool, began: float, now: float, seconds: float) -> None:
        """Notes a served answer. began, now: start and end of the call. seconds: to the first token, or to the end."""
        series = self.streams if stream else self.plain
        if self._quiet_since is not None:
            if began >= self._quiet_since:
                series.quiet.append(seconds)
        elif self._running or self._ran_until >= began:
            series.with_shadows.append(seconds)
            series.since += 1

    def tick(self, now: float) -> None:
        """Called about once a second."""
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
        enough = any(series.since >= MIN_WITH_SHADOWS for series in self._series)
        return enough and (now - self._compared_at >= STALE_S or any(series.longer() for series in self._series))

    def _in_spell(self, now: float) -> None:
        if self._quiet_since is None and not self._running:
            self._quiet_since = now
        if self._spell_until is not None and now >= self._spell_until:
            self._compare(now)

    def _compare(self, now: float) -> None:
        at_fault = any(series.longer(fresh=True) for series in self._series)
        if any(len(series.quiet) >= MIN_QUIET for series in self._series):
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
    """The times of one kind of answer, in seconds."""

    def __init__(self) -> None:
        self.with_shadows: deque[float] = deque(maxlen=WITH_SHADOWS)
        self.quiet: list[float] = []
        """The latencies of the current quiet spell."""
        self.reference: list[float] = []
        """The latencies of the last quiet spell with enough answers."""
        self.since = 0
        """Answers with shadows since that spell."""

    def longer(self, *, fresh: bool = False) -> bool:
        """Whether the tail is longer with shadows than in the last spell; fresh: than in the current one."""
        quiet = self.quiet if fresh else self.reference
        if len(quiet) < MIN_QUIET or len(self.with_shadows) < MIN_WITH_SHADOWS:
            return False
        return tail_is_longer(list(self.with_shadows), quiet)

    def turn(self) -> None:
        """Ends the quiet spell."""
        if len(self.quiet) >= MIN_QUIET:
            self.reference = self.quiet
        self.quiet = []
        self.with_shadows.clear()
        self.since = 0


def tail_is_longer(with_shadows: list[float], quiet: list[float]) -> bool:
    """Whether `with_shadows` has the longer tail: significantly, and by enough to matter."""
    k = max(1, len(quiet) // 100)
    bound = sorted(quiet)[-k]
    above = sum(seconds > bound for seconds in with_shadows)
    high = sorted(with_shadows)[-max(1, len(with_shadows) // 100)]
    return high >= RATIO * bound and tail_p(above, len(with_shadows), k, len(quiet)) < P_VALUE


def tail_p(above: int, n: int, k: int, m: int) -> float:
    """P(at least `above` of n values exceed the k-th largest of m others), when all n + m are exchangeable.

    This is so exactly if fewer than k of the above + k - 1 largest values are among the m, which is hypergeometric.
    above: in 0 … n. k: in 1 … m. Ties count as not exceeding, which can only make the result larger.
    """
    if above == 0:
        return 1.0
    top = above + k - 1
    ways = sum(comb(m, i) * comb(n, top - i) for i in range(k) if top - i <= n)
    return ways / comb(n + m, top)
