"""The section `feedback` of gateway.yaml: what counts as feedback besides `POST /v1/feedback`."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from gateway.config.types import Section, number

ImplicitLanguage = Literal["en", "de", "fr", "es", "it"]


_Bound = Annotated[float, BeforeValidator(number)]
FeedbackName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"expected [lowest, highest], two numbers that rise, such as [0, 1]; got [{low:g}, {high:g}]")
    return value


FeedbackRange = Annotated[tuple[_Bound, _Bound], AfterValidator(_rising)]


class FeedbackConfig(Section):
    """Feedback that users give without a thumb."""

    implicit: tuple[ImplicitLanguage, ...] = ()
    """Languages whose rules read the next message of a user as feedback on the answer before it. Default: none."""
    range: dict[FeedbackName, FeedbackRange] = Field(default={})
    """The lowest and highest `value` of feedback, by its name: `{thumb: [0, 1], stars: [1, 5]}`. Others are refused
    with HTTP 400. Default: any number, whose outliers splits take as less extreme."""
