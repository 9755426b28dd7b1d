"""Corrected means, and the draws of answers for people."""

from __future__ import annotations

import math
import random
import sys
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from gateway.features.labels.correction import (
    EVERYTHING,
    MIN_LABELS,
    ItemArrays,
    JudgedSample,
    LabelCandidate,
    Labels,
    SamplingDesign,
    at_any_look,
    call_weights,
    corrected,
    designs_of,
    error_rates,
    in_order,
    judged_sample,
    labelled_items,
    labels_in,
    labels_needed,
    position,
    probabilities,
    rate,
    rogan_gladen,
    seen_in_order,
    threshold,
)
from gateway.features.labels.rows import JudgedSums
from tests.statistics.powered_mean import Labelled, powered_mean


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


def labels(y, f, weight=1.0, pi=0.1):
    n = len(y)
    return Labels.of(y, f, [weight] * n, [pi] * n)


def judged(f, weight=1.0):
    f = np.asarray(f, dtype=float)
    n = f.size
    return JudgedSample(n, n * weight, float(f.mean()), float(f.var()), float((f >= 0.5).mean()), n)


@pytest.fixture
def noisy():
    """A judge that is right in four of five: (labels of 60, all 2 000)."""
    rng = np.random.default_rng(3)
    y = (rng.random(2000) < 0.6).astype(float)
    f = np.where(rng.random(2000) < 0.8, y, 1 - y)
    return labels(y[:60], f[:60], pi=0.03), judged(f), y, f


def test_with_equal_weights_it_is_ppis_powered_mean(noisy):
    """The two differ in lambda, which is cut to [0, 1] and takes the variance of all that was judged."""
    few, every, y, f = noisy
    found = corrected(few, every)
    reference = powered_mean(Labelled.of(y[:60], f[:60], f[60:]))
    assert found.mean == pytest.approx(reference.mean, abs=0.02)
    assert found.se == pytest.approx(reference.se, rel=0.25)
    assert 0.3 < found.trust < 1.0


def test_a_judge_that_is_always_right_is_trusted():
    rng = np.random.default_rng(1)
    f = (rng.random(5000) < 0.7).astype(float)
    found = corrected(labels(f[:50], f[:50]), judged(f))
    assert found.mean == pytest.approx(f.mean(), abs=0.01)
    assert found.trust > 0.8
    assert found.high - found.low < 0.2


def test_a_constant_judge_is_not_trusted():
    y = [1.0] * 30 + [0.0] * 20
    found = corrected(labels(y, [1.0] * 50), judged(np.ones(1000)))
    assert (found.mean, found.trust) == (pytest.approx(0.6), 0.0)


def test_labels_count_by_their_weights():
    """Half of the labels stand for nine calls each."""
    y = [1.0, 0.0] * 25
    weight = [9.0, 1.0] * 25
    found = corrected(Labels.of(y, [0.5] * 50, weight, [0.5] * 50), judged(np.full(100, 0.5)))
    assert found.mean == pytest.approx(0.9)


def test_equal_labels_are_not_certainty():
    found = corrected(labels([1.0] * MIN_LABELS, [1.0] * MIN_LABELS), judged(np.ones(1000)))
    assert found.mean == 1.0
    assert 0.5 < found.low < 0.9, "ten of ten is not certain"


def test_fewer_than_ten_labels_give_no_estimate():
    assert corrected(labels([1.0] * 9, [1.0] * 9), judged(np.ones(50))) is None
    assert corrected(labels([1.0] * 20, [1.0] * 20), JudgedSample(0, 0.0, 0.0, 0.0, 0.0, 0.0)) is None


def test_error_rates_are_none_without_good_or_bad_labels(noisy):
    few, every, _, _ = noisy
    rates = error_rates(few, 0.5)
    good = few.y >= 0.5
    assert rates.tpr == pytest.approx((few.f[good] >= 0.5).mean())
    assert rates.m1 == good.sum()
    assert error_rates(labels([1.0] * 20, [1.0] * 20), 0.5) is None
    assert rogan_gladen(labels([1.0] * 20, [1.0] * 20), every, 0.5) is None


def test_rogan_and_gladen_need_a_judge_better_than_chance(noisy):
    few, every, y, _ = noisy
    assert rogan_gladen(few, every, 0.5).rate == pytest.approx(y.mean(), abs=0.15)
    inverted = Labels.of(few.y, 1 - few.f, few.weight, few.pi)
    assert rogan_gladen(inverted, every, 0.5) is None


def test_a_narrower_interval_needs_more_labels(noisy):
    few, every, _, _ = noisy
    found = corrected(few, every)
    wide = labels_needed(found, 60, 0.05)
    assert 60 < wide < 1500
    assert labels_needed(found, 60, 0.5) == 60
    assert labels_needed(found, 60, 1e-6) is None
    assert labels_needed(found, 60, 0.04) > wide


@pytest.mark.parametrize(
    "arguments",
    [([1.0], [1.0, 0.0], [1.0], [1.0]), ([1.0], [1.0], [0.0], [1.0]), ([1.0], [1.0], [1.0], [0.0]),
     ([1.0], [1.0], [1.0], [1.5]), ([math.nan], [1.0], [1.0], [1.0])],
)  # fmt: skip
def test_values_outside_the_domain_are_refused(arguments):
    with pytest.raises(ValueError, match=r"."):
        Labels.of(*arguments)


KEY = ("chat", "local/small", "", "default")


def row(id, labeller="ada", value=1.0, threshold=1.0, share=None, judged=0.8, created=1.0, **fields):
    return {
        "subject_id": id, "labeller": labeller, "value": value, "pool": "", "favour": 1.0, "threshold": threshold,
        "share": share, "horizon": 10.0, "judged": judged, "created": created, "experiment": "", "plan": None,
        "arm": "", "alias": "chat", "model": "local/small", "stratum": "default", **fields,
    }  # fmt: skip


def test_two_labels_of_one_answer_are_one_item():
    items = labelled_items("s", [row("a"), row("a", "bob", 0.0), row("b", value=None)])
    (only,) = items
    assert (only.id, only.y, only.f, only.key, dict(only.by)) == ("a", 0.5, 0.8, KEY, {"ada": 1.0, "bob": 0.0})
    assert only.pi == 1.0


def test_an_item_that_no_draw_explains_was_imported():
    """The item's position is above the threshold: an ordered draw cannot have reached it."""
    ids = sorted((f"i{n}" for n in range(50)), key=lambda i: position("s", i))
    reached = position("s", ids[10])
    items = labelled_items("s", [row(i, threshold=reached) for i in (*ids[:10], ids[-1])])
    by_id = {i.id: i.pi for i in items}
    assert by_id[ids[-1]] == 0.0
    assert [by_id[i] for i in ids[:10]] == pytest.approx([reached] * 10)
    assert labels_in(items, {KEY: 2.0}).n == 10


def test_an_imported_share_is_the_probability():
    items = labelled_items("s", [row("a", threshold=None, share=0.2), row("b", threshold=None, share=0.2)])
    assert [i.pi for i in items] == [pytest.approx(0.2)] * 2


def test_each_design_is_listed_once():
    assert len(designs_of([row("a"), row("b"), row("c", threshold=0.5)])) == 2


def test_a_weight_is_the_calls_per_judged_answer():
    cells = {
        KEY: JudgedSums(
            scored=8, responded=10, asked=12, total=4.0, squares=2.0, good=4, inverse_pi=120, population=100
        ),
        ("chat", "local/small", "", "error"): JudgedSums(5, 5, 5, 5.0, 5.0, 5, inverse_pi=5, population=5),
    }
    assert list(call_weights(cells).values()) == [10.0, 1.0]
    uncounted = {k: JudgedSums(c.scored, c.responded, c.asked, c.total, c.squares, c.good, c.inverse_pi)
                 for k, c in cells.items()}  # fmt: skip
    assert list(call_weights(uncounted).values()) == [12.0, 1.0]
    found = judged_sample(cells)
    assert (found.n, found.weight, found.mean) == (13, 85.0, pytest.approx(45 / 85))
    assert found.variance == pytest.approx((20 + 5) / 85 - (45 / 85) ** 2)
    assert found.effective == pytest.approx(85**2 / (100 * 8 + 5))


def test_without_answers_there_is_no_weight():
    assert judged_sample({}).n == 0
    assert call_weights({KEY: JudgedSums(0, 0, 3, 0.0, 0.0, 0, 3.0)}) == {KEY: 0.0}


def by_conversation(seed: int, conversations: int, icc: float, each: int) -> tuple[Labels, JudgedSample, float]:
    """(labels of some whole conversations, all that was judged, the truth). 60 % are good, the judge is wrong in 20 %;
    both depend on the conversation with this correlation."""
    random, of = np.random.default_rng(seed), 400

    def below(p: float) -> np.ndarray:
        shared, own = random.normal(size=(of, 1)), random.normal(size=(of, each))
        return icc**0.5 * shared + (1 - icc) ** 0.5 * own < NormalDist().inv_cdf(p)

    y, wrong = below(0.6).astype(float), below(0.2)
    f = np.where(wrong, 1 - y, y)
    picked = random.choice(of, conversations, replace=False)
    n, units = conversations * each, [str(c) for c in picked for _ in range(each)]
    few = Labels.of(y[picked].ravel(), f[picked].ravel(), [1.0] * n, [conversations / of] * n, units)
    return few, judged(f.ravel()), float(y.mean())


@pytest.mark.parametrize(("conversations", "icc"), [(5, 0.5), (20, 0.3)])
def test_labels_of_few_conversations_cover(conversations, icc):
    """200 label sets of 20 labels a conversation: at least 0.95 less three standard errors; without the conversations
    the interval covered far less."""
    hits, before = 0, 0
    for seed in range(200):
        few, every, truth = by_conversation(seed, conversations, icc, 20)
        found, alone = corrected(few, every), corrected(replace(few, units=()), every)
        hits += found.low <= truth <= found.high
        before += alone.low <= truth <= alone.high
    sys.stdout.write(
        f"{conversations} conversations, ICC {icc}: coverage {before / 200:.3f} before, {hits / 200:.3f}\n"
    )
    assert hits / 200 >= 0.95 - 3 * (0.95 * 0.05 / 200) ** 0.5
    assert before / 200 < 0.85


def test_labels_of_one_conversation_give_no_interval():
    few, every, _ = by_conversation(1, 1, 0.5, 20)
    assert corrected(few, every) is None


def test_conversations_of_one_label_change_nothing(noisy):
    few, every, _, _ = noisy
    assert corrected(replace(few, units=[str(i) for i in range(60)]), every) == corrected(few, every)


def test_a_gauge_covers_at_every_look():
    """60 growing sets of labels, looked at after every 40th of 400: the truth is ever left by at most 5 % of them,
    plus three standard errors; the interval for one look misses far more often."""
    ever, one_look = 0, 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        y = (random.random(4000) < 0.7).astype(float)
        f = np.where(random.random(4000) < 0.8, y, 1 - y)
        every, misses, narrow = judged(f), False, False
        for n in range(40, 401, 40):
            few = labels(y[:n], f[:n], pi=n / 4000)
            if (found := corrected(few, every)) is not None:
                low, high = at_any_look(found, few)
                misses |= not low <= 0.7 <= high
                narrow |= not found.low <= 0.7 <= found.high
        ever, one_look = ever + misses, one_look + narrow
    sys.stdout.write(f"ever outside: {one_look / 60:.3f} for one look, {ever / 60:.3f} at any look\n")
    assert ever / 60 <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5
    assert ever < one_look
