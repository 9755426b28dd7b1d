"""The mistakes of certificates that a cascade or a target accepts answers by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.config.config import Config
from gateway.core.did_you_mean import did_you_mean


def certificate_mistakes(
    at: str, names: Sequence[str], answering: str, config: Config, reading: str = "native"
) -> Iterator[str]:
    """Certificates of `accept` that say nothing of the answers of a target. at: the path of what accepts them."""
    from gateway.config.certified import certified_scorer
    from gateway.config.decided_questions import DECIDED

    for name in names:
        certificate = config.decisions.certificates.get(name)
        if certificate is None:
            hint = did_you_mean(name, config.decisions.certificates) or "; name one of decisions.certificates"
            yield f'{at}.accept: no certificate "{name}"{hint}'
            continue
        scorer = certified_scorer(config, name)
        if scorer is None:
            yield (
                f'{at}.accept: certificate "{name}" is not about answers of decisions; name one of a scorer with '
                f"`use: {DECIDED}`"
            )
        elif scorer.target != answering:
            yield (
                f'{at}.accept: certificate "{name}" is about {scorer.target or "the answers of all targets"}, and '
                f"{answering} answers; name it as the scorer's `target`"
            )
        elif scorer.reading != reading:
            yield (
                f'{at}.accept: certificate "{name}" is about the reading {scorer.reading}, and the answers have '
                f"{reading}; name it as the scorer's `reading`"
            )
