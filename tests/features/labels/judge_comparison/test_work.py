"""Two judges compared over a store, by the labels that people gave at the desk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.json_outputs import conforms
from rich.console import Console

from gateway.core.errors import CannotRun
from gateway.core.sanitize import to_json
from gateway.features.labels.judge_comparison.model import ComparisonOptions, JudgeComparison
from gateway.features.labels.judge_comparison.report import to_dict, to_terminal
from gateway.features.labels.judge_comparison.work import comparison
from gateway.store.query import reading

NAMES = "stated", "other"


def compared(url: str, first: str = "stated", second: str = "other") -> JudgeComparison:
    with reading(url) as connection:
        return comparison(connection, ComparisonOptions(first, second))


def shown(result: JudgeComparison) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(to_terminal(result))
    return capture.get()


def test_equal_judges_are_exchanged_for_the_cheaper(judged: Any) -> None:
    result = compared(judged.url)
    assert (result.conclusion, result.answers, result.labels, result.labels_of) == ("replace", 600, 200, "stated")
    assert (result.first.price.usd_per_1k, result.second.price.seconds) == pytest.approx((10.0, 0.1))
    assert [shift.target for shift in result.shifts] == ["chat → u/big", "chat → u/small"]
    text = shown(result)
    assert text.startswith("replace: other may stand in for stated, 99% cheaper")
    assert "other is not further from people than stated by 0.02" in text
    conforms("judge compare", to_json(to_dict(result)))


def test_a_judge_that_favours_a_target_is_kept_out(two_judges: Callable[..., Any]) -> None:
    """The judge agrees with people on the mean, and is as near to them as the margin allows."""
    found = two_judges(shift=0.1)
    found.label(300)
    result = compared(found.url)
    assert result.conclusion == "keep"
    assert result.second.bias is not None
    assert abs(result.second.bias.value) < 0.03
    text = shown(result)
    assert text.startswith("keep: other may not stand in for stated")
    assert "other scores chat → u/big by +0.19" in text


def test_few_labels_say_how_many_are_likely_to_decide(two_judges: Callable[..., Any]) -> None:
    found = two_judges()
    found.label(12)
    result = compared(found.url)
    assert (result.conclusion, result.labels, result.first.loss) == ("undecided", 12, None)
    assert conforms("judge compare", to_json(to_dict(result)))["loss_difference"] is None
    assert "about 90 labels in total are likely to decide: `gateway label next --scorer stated`" in shown(result)


def test_labels_for_either_judge_count(judged: Any) -> None:
    """People's verdicts are on the answer: the judge under whose name they are stored may be the second."""
    result = compared(judged.url, "other", "stated")
    assert (result.conclusion, result.labels, result.labels_of) == ("replace", 200, "stated")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("stated", "stated"), "stated cannot be compared with itself"),
        (("stated", "absent"), 'scorer "absent" has scored nothing yet; these scorers have: other, stated'),
    ],
)
def test_a_name_that_cannot_be_compared_is_refused(judged: Any, names: tuple[str, str], says: str) -> None:
    with pytest.raises(CannotRun, match=says):
        compared(judged.url, *names)


def test_judges_without_a_common_answer_are_refused(keep: Callable[..., str], exchange: Callable[..., Any]) -> None:
    keep([exchange("0.5")])
    url = keep([exchange("0.5", id="another")], name="other")
    with pytest.raises(CannotRun, match="0 answers have a score of both stated and other: let both judge"):
        compared(url)


def test_a_judge_of_pairs_is_refused(pairs: Any) -> None:
    with pytest.raises(CannotRun, match="stated judges pairs"):
        comparison(pairs.connection, ComparisonOptions("other", "stated"))
