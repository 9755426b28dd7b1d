"""Classes of traffic: the order in which calls wait for a full upstream, and vLLM's `priority` for each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

TrafficClass = Literal["interactive", "normal", "batch"]
CLASSES: tuple[TrafficClass, ...] = get_args(TrafficClass)
"""The classes in the order in which they are served."""
RANKS: Mapping[TrafficClass, int] = MappingProxyType({name: rank for rank, name in enumerate(CLASSES)})
NORMAL = RANKS["normal"]
BACKGROUND = len(CLASSES)
"""The rank of shadow requests and of scorers, behind all classes."""
PRIORITIES: Mapping[TrafficClass, int] = MappingProxyType({"interactive": -10, "normal": 0, "batch": 10})
"""vLLM serves lower numbers first, and those that send none as 0."""
