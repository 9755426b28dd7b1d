"""The corridor: the Redis streams that carry records from the gateway to the consumers.

Only this package sends stream commands.
"""

from gateway.stream.corridor import Corridor
from gateway.stream.dead_letters import DeadLetter
from gateway.stream.types import EVICTS, GROUP, Lag, ShardSnapshot, StreamEntry, TrimmedEntries

__all__ = ["EVICTS", "GROUP", "Corridor", "DeadLetter", "Lag", "ShardSnapshot", "StreamEntry", "TrimmedEntries"]
