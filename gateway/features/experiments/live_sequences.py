"""Sequences as this process last stored them, so that a step need not build them from their states again.

A sequence is used only where the store holds exactly the state that it has: whatever another consumer has stored in
between, and whatever a transaction of this one has not stored, is read from the store.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.features.experiments.rows.sequences import SequenceName
from gateway.features.experiments.sequences import DifferenceSequence


class LiveSequences:
    """The sequences of one plan. Not for several threads at a time."""

    def __init__(self) -> None:
        self._known: dict[SequenceName, tuple[str, DifferenceSequence]] = {}

    def take(self, texts: Mapping[SequenceName, str]) -> dict[SequenceName, DifferenceSequence]:
        """The sequences of these stored states. The caller moves them, so none is known until `keep`."""
        known, self._known = self._known, {}
        found = {}
        for name, text in texts.items():
            stored, sequence = known.get(name, ("", None))
            same = sequence is not None and stored == text
            found[name] = sequence if same and sequence else DifferenceSequence.from_state(orjson.loads(text))
        return found

    def keep(self, texts: Mapping[SequenceName, str], sequences: Mapping[SequenceName, DifferenceSequence]) -> None:
        """Knows these sequences, which nobody moves any more. texts: their states, as they are stored."""
        self._known = {name: (texts[name], sequence) for name, sequence in sequences.items() if name in texts}
