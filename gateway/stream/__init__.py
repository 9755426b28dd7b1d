"""The corridor: Redis streams between the two rooms. The only package that sends XADD, XREADGROUP, XAUTOCLAIM, XACK."""

from gateway.stream.corridor import Corridor
from gateway.stream.dead_letters import DeadLetter
from gateway.stream.types import EVICTS, GROUP, Lag, ShardSnapshot, StreamEntry, TrimmedEntries

__all__ = ["EVICTS", "GROUP", "Corridor", "DeadLetter", "Lag", "ShardSnapshot", "StreamEntry", "TrimmedEntries"]
