"""The tree and the choice of the share, on tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.statistics.route_choice import (
    FEWEST_IN_LEAF,
    RoutePairs,
    choose_route,
    effective_units,
    grow_tree,
    leaves_of,
    mean_and_errors,
    saved_share,
    thresholds,
)


def pairs(leaf: list[int], difference: list[float], **more: object) -> RoutePairs:
    n = len(leaf)
    fields = {"weights": np.ones(n), "cost_control": np.full(n, 2.0), "cost_moved": np.full(n, 0.5)} | more
    return RoutePairs(np.array(leaf), np.array(difference), **fields)  # type: ignore[arg-type]


def test_a_split_is_where_the_means_differ() -> None:
    x = np.column_stack([np.arange(200) % 7, np.arange(200) >= 120]).astype(float)
    tree = grow_tree(x, np.where(x[:, 1] > 0, -0.5, 0.0), np.ones(200))
    assert tree.branches is not None
    assert (tree.branches[0].feature, tree.branches[0].threshold) == (1, 0.5)
    assert sorted(np.bincount(leaves_of(tree, x))) == [80, 120]


def test_the_last_of_two_equal_features_is_taken() -> None:
    """The features of a request end with its subject; its size only correlates with that."""
    about = (np.arange(200) >= 120).astype(float)
    tree = grow_tree(np.column_stack([about * 300, about]), -about, np.ones(200))
    assert tree.branches is not None
    assert tree.branches[0].feature == 1


def test_noise_is_not_split() -> None:
    rng = np.random.default_rng(1)
    grown = [grow_tree(rng.random((400, 4)), rng.standard_normal(400) * 0.3, np.ones(400)) for _ in range(20)]
    assert sum(tree.branches is None for tree in grown) >= 2
    assert max(leaves_of(tree, rng.random((400, 4))).max() for tree in grown) < 8


def test_leaves_are_not_small() -> None:
    x = (np.arange(200) < FEWEST_IN_LEAF - 1).astype(float)[:, None]
    assert grow_tree(x, -x[:, 0], np.ones(200)).branches is None


def test_there_are_at_most_so_many_leaves() -> None:
    x = np.arange(3200, dtype=float)[:, None]
    tree = grow_tree(x, (x[:, 0] // 200) / 16, np.ones(3200), most_leaves=8)
    assert leaves_of(tree, x).max() == 7


def test_thresholds_lie_between_values() -> None:
    assert thresholds(np.array([0.0, 1.0, 1.0])) == [0.5]
    assert thresholds(np.array([3.0, 3.0])) == []
    assert len(thresholds(np.arange(1000.0))) == 12


def test_the_largest_share_within_the_margin_is_chosen() -> None:
    rng = np.random.default_rng(2)
    leaf = rng.integers(3, size=3000)
    difference = np.array([0.0, -0.05, -0.5])[leaf] + 0.1 * rng.standard_normal(3000)
    curve = choose_route(pairs(leaf.tolist(), difference.tolist()), [0, 1, 2], 0.1, 0.05)
    assert curve.chosen == 1
    assert [round(point.share, 1) for point in curve.points] == [0.3, 0.7, 1.0]
    assert curve.points[1].loss.low < 0.05 / 3 < curve.points[1].loss.high
    assert curve.points[2].p > 0.999


def test_leaves_beyond_the_movable_ones_are_shown_and_not_chosen() -> None:
    curve = choose_route(pairs([0, 1] * 400, [0.0] * 800), [0, 1], 0.1, 0.05, movable=1)
    assert (curve.chosen, len(curve.points)) == (0, 2)
    assert curve.points[1].p < 0.05


def test_a_first_share_that_fails_ends_the_tests() -> None:
    curve = choose_route(pairs([0] * 400 + [1] * 400, [-0.9] * 400 + [0.0] * 400), [0, 1], 0.1, 0.05)
    assert curve.chosen is None


def test_weights_are_those_of_the_draw() -> None:
    of = pairs([0] * 100 + [1] * 100, [0.0] * 100 + [-1.0] * 100, weights=np.array([1.0] * 100 + [3.0] * 100))
    assert mean_and_errors(-of.difference, of, of.leaf >= 0)[0] == pytest.approx(0.75)


def test_equal_differences_claim_no_certainty() -> None:
    """The rule of three says so too: 100 pairs without a loss say little of what happens once in a hundred."""
    mean, [error] = mean_and_errors(np.zeros(100), pairs([0] * 100, [0.0] * 100), np.ones(100, dtype=bool))
    assert mean == 0.0
    assert error.se == pytest.approx(3.4**0.5 / 100)


def test_the_error_over_users_is_that_of_their_t_test() -> None:
    """Equally heavy users: the t test over their means, with as many degrees of freedom as users less 1."""
    rng = np.random.default_rng(3)
    values, users = rng.uniform(-1, 1, 60) + np.repeat(rng.uniform(-1, 1, 6), 10), np.repeat(np.arange(6), 10)
    of = pairs([0] * 60, values.tolist(), units=users.tolist())
    mean, errors = mean_and_errors(values, of, np.ones(60, dtype=bool))
    means = values.reshape(6, 10).mean(axis=1)
    assert (mean, errors[-1].df) == (pytest.approx(means.mean()), pytest.approx(5))
    assert errors[-1].se == pytest.approx(means.std(ddof=1) / 6**0.5)


def test_users_who_are_not_moved_do_not_count() -> None:
    """Two users of a leaf say nothing about others, however many there are elsewhere."""
    leaf, users = [0] * 40 + [1] * 60, [i % 2 for i in range(40)] + list(range(10, 70))
    of = pairs(leaf, [0.0] * 100, units=users)
    assert effective_units(users, (of.leaf == 0).astype(float)) == pytest.approx(2.0)
    assert choose_route(of, [0, 1], 0.5, 0.05).chosen is None


def test_the_saving_is_of_the_control_s_cost() -> None:
    found = saved_share(pairs([0] * 50 + [1] * 50, [0.0] * 100), np.arange(100) < 50, 0.05)
    assert found is not None
    assert found.value == pytest.approx(0.5 * 1.5 / 2.0)
    assert found.low < found.value < found.high
    unknown = pairs([0] * 5, [0.0] * 5, cost_moved=np.full(5, np.nan))
    assert saved_share(unknown, np.ones(5, dtype=bool), 0.05) is None
