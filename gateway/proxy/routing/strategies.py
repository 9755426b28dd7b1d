"""Load balancing: which of an alias's targets is attempted first. Pure; random numbers are passed in."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from gateway.config.config import Strategy
from gateway.proxy.request.call import Call
from gateway.proxy.routing.target_state import TargetState

_BOUND = 1.25  # multiple of the mean load above which a hashed target is skipped
_PREFIX_BYTES = 1024
_PROMPTS = ("prompt", "input", "messages")  # of the APIs; the first that a request has


@dataclass(frozen=True, slots=True)
class WeightedTargetState:
    target_state: TargetState
    weight: float
    """Share of the alias's calls, relative to the other targets' weights."""

    @property
    def load(self) -> float:
        return self.target_state.load / self.weight


def order(
    targets: Sequence[WeightedTargetState], strategy: Strategy, call: Call, rng: random.Random
) -> list[TargetState]:
    """The targets in the order in which to attempt them: the strategy's choice, then the others by weight.

    Targets that are not ready come last.
    """
    if len(targets) == 1:
        return [targets[0].target_state]
    ready = [t for t in targets if t.target_state.ready]
    first = _choose(ready, strategy, call, rng) if ready else None
    rest = sorted((t for t in targets if t is not first), key=lambda t: (not t.target_state.ready, -t.weight))
    return [t.target_state for t in ([first, *rest] if first else rest)]


def _choose(
    places: list[WeightedTargetState], strategy: Strategy, call: Call, rng: random.Random
) -> WeightedTargetState:
    if len(places) == 1:
        return places[0]
    if strategy == "least_in_flight":
        return min(places, key=lambda t: (t.load, rng.random()))
    if strategy == "latency":
        pair = rng.sample(places, 2)  # power of two choices: Mitzenmacher, 2001
        return min(pair, key=lambda t: t.target_state.latency_s * t.load)
    if strategy in ("prefix", "session"):
        key = prefix(call) if strategy == "prefix" else session(call)
        return _hashed(places, key) if key else _weighted(places, rng)
    return _weighted(places, rng)


def _weighted(targets: list[WeightedTargetState], rng: random.Random) -> WeightedTargetState:
    at = rng.random() * sum(t.weight for t in targets)
    for target in targets:
        at -= target.weight
        if at < 0:
            return target
    return targets[-1]


def _hashed(targets: list[WeightedTargetState], key: bytes) -> WeightedTargetState:
    """Weighted rendezvous hashing with bounded load: the highest score whose target is not above 1.25 × the mean.

    Source: Mirrokni, Thorup & Zadimoghaddam, "Consistent hashing with bounded loads", arXiv:1608.01350.
    """
    bound = math.ceil(_BOUND * (sum(t.target_state.in_flight for t in targets) + 1) / len(targets))
    ranked = sorted(targets, key=lambda t: _score(t, key), reverse=True)
    return next((t for t in ranked if t.target_state.in_flight + 1 <= bound), ranked[0])


def _score(target: WeightedTargetState, key: bytes) -> float:
    digest = blake2b(target.target_state.name.encode() + b"\0" + key, digest_size=8).digest()
    return -target.weight / math.log((int.from_bytes(digest) + 1) / 2**64)


def session(call: Call) -> bytes:
    """The key that keeps a session on one target: conversation, `user` or `prompt_cache_key`; b"" if there is none."""
    for key in (call.conversation, call.fields.get("user"), call.fields.get("prompt_cache_key")):
        if isinstance(key, str) and key:
            return key.encode()
    return b""


def prefix(call: Call) -> bytes:
    """The first 1024 bytes of the prompt, as JSON: calls that share them share a server's prefix cache."""
    if call.upload is not None:
        return b""
    members = call.slices()
    for name in _PROMPTS:
        if name in members and call.fields[name] is not None:
            return bytes(memoryview(members[name])[:_PREFIX_BYTES])
    return b""
