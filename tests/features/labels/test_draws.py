"""Every item is seen with a known probability, also when labelling stops and continues."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from gateway.features.labels.draws import (
    EVERYTHING,
    ItemArrays,
    LabelCandidate,
    SamplingDesign,
    in_order,
    position,
    probabilities,
    rate,
    seen_in_order,
    threshold,
)


def candidates(n, seed=0, bad=0.3, experiment=""):
    rng = random.Random(seed)
    return [LabelCandidate(f"{seed}-{i}", float(rng.random() > bad), float(i), experiment) for i in range(n)]


def label(scorer, found, count, favour=1.0, seen=frozenset()):
    """The first `count` unseen items, and the design after the last of them."""
    ordered = in_order(scorer, found, favour)
    chosen = [c.id for _, c in ordered if c.id not in seen][:count]
    reached = threshold(ordered, {*seen, *chosen})
    return chosen, SamplingDesign("", favour, reached, None, max(c.created for c in found))


def test_a_position_is_constant_and_differs_by_scorer():
    assert position("a", "1") == position("a", "1") != position("b", "1")


def test_favoured_items_are_drawn_more_often():
    assert [rate(0.0, 4.0), rate(1.0, 4.0), rate(0.0, 0.5), rate(1.0, 0.5)] == [1.0, 0.25, 0.5, 1.0]
    found = candidates(4000)
    chosen, _ = label("s", found, 400, favour=4.0)
    judged = {c.id: c.judged for c in found}
    bad = sum(judged[i] == 0.0 for i in chosen)
    assert 0.56 < bad / 400 < 0.70, "4 · 0.3 of 4 · 0.3 + 0.7"


@pytest.mark.parametrize("favour", [1.0, 5.0])
def test_sums_weighted_by_probability_are_unbiased(favour):
    """Horvitz and Thompson, over 300 scorers: each draws others."""
    found = candidates(300)
    truth = np.array([c.judged * 2 + i / 300 for i, c in enumerate(found)])
    at = {c.id: i for i, c in enumerate(found)}
    sums = []
    for number in range(300):
        scorer = f"s{number}"
        chosen, design = label(scorer, found, 40, favour)
        pi = probabilities(ItemArrays.of(scorer, found), [design])
        sums.append(sum(truth[at[i]] / pi[at[i]] for i in chosen))
    error = np.std(sums) / math.sqrt(len(sums))
    assert abs(np.mean(sums) - truth.sum()) < 3 * error


def test_pauses_and_new_answers_keep_sums_unbiased():
    """40 labelled, then 200 new answers, then 40 more: still unbiased, for old and new alike."""
    old, new = candidates(200, 1), [replace(c, created=1000 + c.created) for c in candidates(200, 2, bad=0.6)]
    at = {c.id: i for i, c in enumerate([*old, *new])}
    truth = np.array([1.0] * 200 + [3.0] * 200)
    sums = []
    for number in range(300):
        scorer = f"s{number}"
        first, one = label(scorer, old, 40)
        second, two = label(scorer, [*old, *new], 40, seen=frozenset(first))
        pi = probabilities(ItemArrays.of(scorer, [*old, *new]), [one, two])
        assert all(pi[at[i]] > 0 for i in (*first, *second))
        sums.append(sum(truth[at[i]] / pi[at[i]] for i in (*first, *second)))
    assert abs(np.mean(sums) - truth.sum()) < 3 * np.std(sums) / math.sqrt(len(sums))


def test_when_everything_is_seen_every_probability_is_1():
    found = candidates(5)
    _, design = label("s", found, 5)
    assert design.threshold == EVERYTHING
    assert probabilities(ItemArrays.of("s", found), [design]).tolist() == [1.0] * 5


def test_items_newer_than_the_last_draw_cannot_be_seen():
    found = candidates(50)
    _, design = label("s", found, 10)
    late = [replace(c, created=c.created + 1000) for c in found]
    assert probabilities(ItemArrays.of("s", late), [design]).tolist() == [0.0] * 50


def test_a_draw_from_one_experiment_leaves_out_the_others():
    found = [*candidates(20, 1, experiment="swap"), *candidates(20, 2)]
    design = SamplingDesign("swap", 1.0, 0.5, None, 100.0)
    pi = probabilities(ItemArrays.of("s", found), [design])
    assert (set(pi[:20]), set(pi[20:])) == ({0.5}, {0.0})


def test_two_ways_to_be_drawn_are_independent():
    found = candidates(3)
    both = [SamplingDesign("", 1.0, 0.5, None, 100.0), SamplingDesign("", 1.0, None, 0.2, 100.0)]
    items = ItemArrays.of("s", found)
    assert probabilities(items, both) == pytest.approx([0.6] * 3)
    assert seen_in_order(items, both) == pytest.approx([0.5] * 3)
