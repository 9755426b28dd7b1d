"""Which conversations are complete, so that a further shadow would be paid for and would not count. Pure.

With rules 2 a conversation counts as the mean over its pairs, until it has its most pairs or was quiet for too long
(features/experiments/independence.py). What is known here is what this process has sent: where the calls of one
conversation come to several workers, each of them may send as many shadows.
"""

from __future__ import annotations

from gateway.core.plan import CONVERSATION_PAIRS, CONVERSATION_QUIET_S

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
