"""Bounds of shadow requests: the spending of a day, and the conversations that are complete.

Spending is counted in tokens and USD by experiment for the current UTC day, over all gateways of a stream server.

The sums are in the stream server. Each second a process adds what it has spent and reads the total, off the hot path.
So a budget is exceeded by at most what all gateways spend in a second plus the requests then in flight
(`budget.concurrency` in each process). While the stream server is unreachable, each process uses the total it last read
and its own spending: the budget then holds for each process separately. An addition that was not acknowledged is
repeated, so that too much may be counted but never too little.

With rules 2 a conversation counts as the mean over its pairs, until it has its most pairs or was quiet for too long
(verdict/sequences/independence.py): a further shadow would be paid for and would not count. A process knows what it
has sent itself: where the calls of one conversation come to several workers, each of them may send the maximum.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable

from gateway.config.experiments import ExperimentBudget
from gateway.core.exchange import Usage
from gateway.core.plan import CONVERSATION_PAIRS, CONVERSATION_QUIET_S
from gateway.stream.shared_state import SHADOW_COUNTS, SPENDING_DAY_S, SharedState

KEEP_S = 3 * SPENDING_DAY_S
_BYTES_PER_TOKEN = 3  # for an upstream that reports no usage: rather too many tokens than too few


class ShadowSpending:
    """The spending of this process that is not yet shared, and the total of all gateways as last read."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """clock: Unix seconds."""
        self._clock = clock
        self._day = int(clock() // SPENDING_DAY_S)
        self._known: dict[str, float] = {}  # of all gateways, as last read
        self._own: defaultdict[str, float] = defaultdict(float)  # not yet added there
        self._results: Counter[str] = Counter()

    def spent(self, experiment: str, what: str) -> float:
        """what: "tokens" or "usd"."""
        self._turn()
        field = f"{experiment}:{what}"
        return self._known.get(field, 0.0) + self._own[field]

    def over(self, experiment: str, budget: ExperimentBudget) -> bool:
        tokens, usd = budget.tokens_per_day, budget.usd_per_day
        if tokens is not None and self.spent(experiment, "tokens") >= tokens:
            return True
        return usd is not None and self.spent(experiment, "usd") >= usd

    def used(self, experiment: str, budget: ExperimentBudget) -> float | None:
        """The share of the day's budget that is used, the larger of tokens and USD; None if there is no daily limit."""
        limits = {"tokens": budget.tokens_per_day, "usd": budget.usd_per_day}
        shares = [self.spent(experiment, what) / limit for what, limit in limits.items() if limit]
        return max(shares, default=None)

    def took(self, experiment: str, usage: Usage, usd: float | None) -> None:
        self._turn()
        self._own[f"{experiment}:tokens"] += usage.input_tokens + usage.output_tokens
        self._own[f"{experiment}:usd"] += usd or 0.0

    def counted(self, plan_hash: str, result: str) -> None:
        """Counts one result, for `gateway ab status`."""
        self._results[f"{plan_hash}:{result}"] += 1

    async def share(self, sums: SharedState, experiments: list[str]) -> None:
        """Adds the new spending and reads the total. Raises StreamDown; nothing is lost then."""
        self._turn()
        day = self._day
        fields = [f"{name}:{what}" for name in experiments for what in ("tokens", "usd")]
        new = {field: self._own[field] for field in {*fields, *self._own}}
        totals = await sums.add(f"spent:{day}", new, KEEP_S)
        if day == self._day:
            self._known.update(totals)
            for field, amount in new.items():
                self._own[field] -= amount
        results = dict(self._results)
        if results:
            await sums.add(SHADOW_COUNTS, results)
            self._results.subtract(results)
            self._results = +self._results

    def _turn(self) -> None:
        day = int(self._clock() // SPENDING_DAY_S)
        if day != self._day:
            self._day = day
            self._known.clear()
            self._own.clear()


def usage_or_guess(usage: Usage | None, request: bytes, response: bytes) -> Usage:
    """The usage, or an estimate from the bytes if the upstream reports none: it must not count as free."""
    return usage or Usage(len(request) // _BYTES_PER_TOKEN, len(response) // _BYTES_PER_TOKEN)


MOST_CONVERSATIONS = 10_000  # of one experiment: the one whose last shadow is the oldest is forgotten beyond that


class ShadowedConversations:
    """The conversations of one experiment with a shadow, the one with the newest last. Times are in Unix seconds."""

    def __init__(self, most: int = MOST_CONVERSATIONS) -> None:
        self._most = most
        self._plan = ""
        # By the hash of the name, which may be long: of 10 000 names, two are alike once in 10^11 times.
        self._rows: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def complete(self, plan: str, name: str, at: float) -> bool:
        """Whether a pair of this time would not count any more. plan: its hash; name: the conversation's."""
        row = self._rows.get(hash(name)) if plan == self._plan else None
        return row is not None and (row[0] >= CONVERSATION_PAIRS or at - row[1] > CONVERSATION_QUIET_S)

    def add(self, plan: str, name: str, at: float) -> None:
        """Notes a shadow of this time. Another plan begins with no conversation."""
        if plan != self._plan:
            self._plan, self._rows = plan, {}
        sent, last = self._rows.pop(hash(name), (0, at))
        self._rows[hash(name)] = (sent + 1, max(last, at))
        if len(self._rows) > self._most:
            del self._rows[next(iter(self._rows))]
