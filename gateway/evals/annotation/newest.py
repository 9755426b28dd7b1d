"""Which version of a scorer is looked at: the one that judged last."""

from __future__ import annotations

from gateway.core.errors import CannotRun
from gateway.evals.store.labels import ScorerVersion, scorers_seen, version_of
from gateway.evals.store.query import Reading


class NothingScored(CannotRun):
    """This scorer has judged nothing; the message says what to do."""


def newest(connection: Reading, scorer: str) -> ScorerVersion:
    """The version that judged last. Raises NotJudged."""
    of = version_of(connection, scorer)
    if of is not None:
        return of
    known = ", ".join(scorers_seen(connection))
    raise NothingScored(
        f'scorer "{scorer}" has judged nothing yet'
        + (f"; these have: {known}" if known else "; no scorer has: `gateway evaluate` judges what was recorded")
    )
