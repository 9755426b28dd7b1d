"""A watch learns two weeks, rings once for a change, and learns again from the change on."""

from __future__ import annotations

from dataclasses import replace

from gateway.features.models.watch.cells import BASELINE_H
from gateway.features.models.watch.hourly_calls import HourOfTarget
from gateway.features.models.watch.monitor import WatchErrors
from gateway.features.models.watch.sentences import change_text, watch_text
from gateway.features.models.watch.target_watch import (
    ModelChange,
    Ringing,
    TargetWatch,
    advanced,
    scorer_moved,
    watch_from_json,
    watch_to_json,
)
from tests.features.models.watch.watched_calls import FIRST, hours, shifted, together

DEPLOYMENT = WatchErrors(20, 160)


def driven(
    made: list[HourOfTarget], state: TargetWatch | None = None, before: list[HourOfTarget] | None = None
) -> tuple[TargetWatch | None, list[Ringing]]:
    """The state after these hours, which goes through JSON, and the changes."""
    changes, history = [], list(before or [])
    for hour in made:
        history = [*history, hour][-BASELINE_H:]
        state, change = advanced(state, history, DEPLOYMENT)
        changes += [change] if change else []
    return state and watch_from_json(watch_to_json(state)), changes


def test_a_change_is_noticed_once_and_is_the_new_baseline() -> None:
    first = hours(1, 14, n=20)
    learning, none = driven(first[:-1])
    assert learning is not None
    assert (learning.begun, learning.monitors, none) == (FIRST, [], [])
    assert "learns its baseline until" in watch_text(learning)
    ready, none = driven(first[-1:], learning, first[:-1])
    assert ready is not None
    assert len(ready.monitors) == 1
    assert none == []
    assert "watched since" in watch_text(ready)
    later = [*shifted(hours(2, 1, n=20), BASELINE_H), *shifted(hours(3, 4, n=20, longer=2.0), BASELINE_H + 24)]
    state, changes = driven(later, ready, first)
    assert state is not None
    assert len(changes) == 1
    assert abs(changes[0].since - (FIRST + BASELINE_H + 24)) <= 2
    assert changes[0].hour <= FIRST + BASELINE_H + 24 + 24
    assert "the length of answers rose from" in change_text(changes[0])
    assert len(changes[0].customers) > 20
    assert changes[0].prompts == 0.0, "prompts are as long as before"
    assert (state.begun, state.monitors) == (changes[0].since, [])


def test_a_scorer_that_begins_later_has_a_baseline_of_its_own() -> None:
    first = hours(1, 14, n=8, user=None)
    ready, _ = driven(first)
    other = {"user": None, "scores": {"score brevity 1.x": (0.5, 1.0)}}
    later = shifted(hours(2, 15, n=8, **other), BASELINE_H)
    early, _ = driven(later[:240], ready, first)
    assert early is not None
    assert "score brevity 1.x" not in early.watched
    state, changes = driven(later[240:], early, [*first, *later[:240]])
    assert state is not None
    assert len(state.monitors) == 2
    assert state.monitors[1].series == ["score brevity 1.x"]
    assert changes == []


def test_a_customer_whose_answers_alone_move_is_left_out() -> None:
    """Three keys; the answers to one of them become twice as long: it asks otherwise, and the model is the same."""
    keys = [{"caller": name, "user": None} for name in ("app", "web", "bot")]
    first = together([hours(seed, 14, n=8, **key) for seed, key in enumerate(keys)])
    later = together([hours(9 + seed, 4, n=8, longer=1.0 + (not seed), **key) for seed, key in enumerate(keys)])
    ready, _ = driven(first)
    state, changes = driven(shifted(later, BASELINE_H), ready, first)
    assert state is not None
    assert changes == []
    assert set(state.apart) == {"app"}
    assert "left out, as only their answers moved: the key app since" in watch_text(state)
    assert {cell.customer for cell in state.monitors[0].cells} == {"web", "bot"}


def test_a_scorer_that_moves_elsewhere_is_known() -> None:
    state, _ = driven(hours(1, 14, n=8, user=None))
    assert state is not None
    assert scorer_moved(state, "judge", "down", 0) is False
    assert scorer_moved(state, "other", "down", 0) is None
    changed = replace(state, change=ModelChange(9, 8, ["score judge 1.abc"], "provider", "text"))
    assert scorer_moved(changed, "judge", "down", 9) is True


def test_without_calls_nothing_is_watched() -> None:
    assert watch_text(None) == "not watched yet"
