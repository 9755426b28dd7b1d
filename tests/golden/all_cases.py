"""The cases of a recording, by name."""

from __future__ import annotations

from collections.abc import Mapping

from golden import guard_cases, likelihood_cases, offline_cases, replay_cases, running_cases, shadow_cases, split_cases
from golden.cases import Make

CASES: Mapping[str, Make] = {
    "shadow": shadow_cases.shadow,
    "rejected": shadow_cases.rejected,
    "several candidates": shadow_cases.several,
    "best of three": shadow_cases.best,
    "judge with labels": shadow_cases.judged,
    "split by feedback": split_cases.feedback,
    "shadows and split": split_cases.both,
    "ramp promoted": split_cases.promoted,
    "ramp rolled back": split_cases.rolled_back,
    "ramp advised": split_cases.advised,
    "guard promoted": guard_cases.promoted,
    "guard taken back": guard_cases.taken_back,
    "guard as the candidate": guard_cases.candidate,
    "likelihood": likelihood_cases.likelihood,
    "route": offline_cases.route,
    "compare": offline_cases.compare,
    "replay": replay_cases.replay,
    "running before": running_cases.goes_on,
}
