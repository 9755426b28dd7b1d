"""The corridor: Redis streams between the two rooms. The only place that says XADD, XREADGROUP, XAUTOCLAIM, XACK."""

from gateway.stream.corridor import Corridor
from gateway.stream.dead_letters import DeadLetter
from gateway.stream.types import EVICTS, GROUP, Entry, Lag, Look, Trimmed

__all__ = ["EVICTS", "GROUP", "Corridor", "DeadLetter", "Entry", "Lag", "Look", "Trimmed"]
