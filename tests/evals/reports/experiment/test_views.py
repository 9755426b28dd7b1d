"""What may be compared with what, and what each arm is."""

from __future__ import annotations

from dataclasses import replace

from gateway.evals.reports.experiment import views


def test_a_metric_that_is_named_twice_stands_where_it_decides(report):
    made = report()
    shown = views.comparisons(replace(made, primary=replace(made.metrics[0], pairs=7)))
    assert [c.metric for c in shown] == [c.metric for c in made.metrics]
    assert shown[0].pairs == 7
    assert views.comparisons(report("nothing")) == []


def test_costs_are_compared_with_the_control_and_never_with_its_repetition(report):
    made = report()
    control, candidate = views.arms_compared(made)
    assert (control.arm, candidate.arm) == ("control", "llama")
    assert views.arms_compared(replace(made, arms=made.arms[1:])) is None
    assert views.arms_compared(report("nothing")) is None


def test_latency_is_compared_only_with_the_arm_that_was_asked_by_the_same_path(report):
    made = report()
    other, candidate = views.latency_compared(made)
    assert (other.arm, candidate.arm) == ("repeat", "llama")
    alone = replace(made, latency=(made.latency[0], made.latency[2]))
    assert views.latency_compared(alone) is None
    split = tuple(replace(each, comparable=True) for each in alone.latency)
    assert views.latency_compared(replace(made, latency=split))[0].arm == "control"
    first = tuple(replace(each, measure="first_token_s") for each in split)
    assert views.latency_compared(replace(made, latency=first)) is None


def test_the_first_arm_that_is_neither_candidate_nor_repetition_is_the_control(report):
    made = report()
    more = replace(made.arms[0], arm="third")
    assert views.parts_played(replace(made, arms=(*made.arms, more))) == {
        "llama": "candidate",
        "repeat": "repeat",
        "control": "control",
        "third": "other",
    }


def test_what_was_drawn_is_what_was_compared_and_what_was_withheld(report):
    assert views.drawn(report()) == 1240 + 43
    assert views.drawn(report("nothing")) == 0
