"""A round of probes against its past: changes that are noticed, and noise that is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gateway.core.completion import Completion
from gateway.core.exchange import Usage
from gateway.features.models.probes.comparison import LEAST_ROUNDS, error_level, judged
from gateway.features.models.probes.model import MODES, Mode, ProbeRound, answer_of, round_from_json

LEVEL = error_level(4, 86_400.0)
PROBES = 12
Speak = Callable[[int, Mode, int], str]
"""The answer to a probe by its number, the mode and the repeat."""


def asked(day: int, speak: Speak, *, logprob: float | None = None, definition: str = "d") -> ProbeRound:
    answers = []
    for repeat in range(2):
        for probe in range(PROBES):
            for mode in MODES:
                text = speak(probe, mode, repeat)
                usage = Usage(10, len(text.split()))
                answers.append(answer_of(str(probe), mode, Completion(text, usage=usage, mean_logprob=logprob)))
    return ProbeRound("chat", "a/m", day * 86_400.0, definition, "baseline", answers=tuple(answers))


def talker(seed: int, words: float, noise: float = 0.0, salt: str = "") -> Speak:
    """Answers of a model: fixed at temperature 0 but for a share of noise, and of random lengths as served."""
    rng = np.random.default_rng(seed)

    def speak(probe: int, mode: Mode, repeat: int) -> str:
        if mode == "exact":
            return f"answer {salt} {probe}" + (f" {rng.integers(3)}" if rng.random() < noise else "")
        return " ".join(f"word{rng.integers(4)}" for _ in range(max(1, round(rng.normal(words, words / 5)))))

    return speak


def history(days: int, speak: Callable[[int], ProbeRound]) -> list[ProbeRound]:
    past: list[ProbeRound] = []
    for day in range(days):
        past.append(judged(speak(day), past, LEVEL))
    return past


def results(rounds: list[ProbeRound]) -> list[str]:
    return [of.result for of in rounds]


def test_the_first_rounds_are_the_baseline() -> None:
    rounds = history(LEAST_ROUNDS + 1, lambda day: asked(day, talker(day, 40)))
    assert results(rounds) == ["baseline"] * LEAST_ROUNDS + ["same"]
    assert rounds[0].text == f"round 1 of {LEAST_ROUNDS} of the baseline"


def test_another_model_is_suspected_and_then_changed() -> None:
    """After the change, the two rounds that showed it begin the next baseline."""
    rounds = history(11, lambda day: asked(day, talker(day, 40, salt="new" if day > 5 else "old")))
    assert results(rounds) == [*["baseline"] * 3, *["same"] * 3, "suspected", "changed", "baseline", "same", "same"]
    assert rounds[7].measures == ("answers",)
    assert "agree to 0 % with those of the days before, which agree to 100 % with each other" in rounds[7].text.replace(
        "\u202f", " "
    )


def test_a_difference_of_one_round_is_no_change() -> None:
    rounds = history(9, lambda day: asked(day, talker(day, 40, salt="odd" if day == 6 else "")))
    assert results(rounds) == [*["baseline"] * 3, *["same"] * 3, "suspected", "same", "same"]


def test_noise_at_temperature_0_is_no_change() -> None:
    """A third of the answers at temperature 0 is random, and the answers as served are."""
    rounds = history(16, lambda day: asked(day, talker(day, 40, noise=0.5)))
    assert set(results(rounds)) == {"baseline", "same"}


def test_answers_of_a_day_that_are_alike_are_no_change() -> None:
    """A server caches: both repeats of a day are equal, and each day half of the answers are others."""

    def cached(day: int) -> ProbeRound:
        rng = np.random.default_rng(day)
        drawn = rng.integers(0, 2, PROBES)
        return asked(day, lambda probe, mode, repeat: f"answer {probe} {drawn[probe]}")

    assert set(results(history(16, cached))) == {"baseline", "same"}


def test_answers_that_are_a_third_longer_are_noticed() -> None:
    rounds = history(18, lambda day: asked(day, talker(day, 40 if day < 15 else 53.2)))
    assert results(rounds)[15:17] == ["suspected", "changed"]
    assert {"length", "tokens"} <= set(rounds[16].measures)


def test_log_probabilities_alone_are_noticed() -> None:
    """The texts stay; the probabilities move by a hundredth, in a noise of a thousandth."""
    rng = np.random.default_rng(1)

    def speak(day: int) -> ProbeRound:
        of = asked(day, talker(day, 40))
        return replace(
            of,
            answers=tuple(
                replace(answer, logprob=-0.5 + (0.01 if day > 5 else 0.0) + float(rng.normal(0, 0.001)))
                for answer in of.answers
            ),
        )

    rounds = history(8, speak)
    assert results(rounds)[6:] == ["suspected", "changed"]
    assert rounds[7].measures == ("logprob",)


def test_another_definition_has_no_past() -> None:
    rounds = history(7, lambda day: asked(day, talker(day, 40, salt=str(day > 4)), definition=str(day > 4)))
    assert results(rounds) == [*["baseline"] * 3, "same", "same", "baseline", "baseline"]


def test_a_request_that_is_new_waits_for_its_own_past() -> None:
    """Nothing is compared in a round whose requests are all new."""
    old = history(5, lambda day: asked(day, talker(day, 40)))
    new = asked(6, talker(6, 40, salt="other"))
    moved = replace(new, answers=tuple(replace(answer, key=f"new {answer.key}") for answer in new.answers))
    assert judged(moved, old, LEVEL).result == "same"


def test_a_round_is_the_same_after_it_was_stored() -> None:
    of = asked(1, talker(1, 40), logprob=-0.25)
    assert round_from_json(of.to_json()) == of
