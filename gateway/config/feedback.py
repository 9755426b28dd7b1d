"""The section `feedback` of gateway.yaml: what counts as feedback besides `POST /v1/feedback`."""

from __future__ import annotations

from typing import Literal

from gateway.config.types import Section

ImplicitLanguage = Literal["en", "de", "fr", "es", "it"]


class FeedbackConfig(Section):
    """Feedback that users give without a thumb."""

    implicit: tuple[ImplicitLanguage, ...] = ()
    """Languages whose rules read the next message of a user as feedback on the answer before it. Default: none."""
