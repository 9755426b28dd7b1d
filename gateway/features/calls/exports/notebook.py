"""`gateway.read(url)`: the store as pandas DataFrames, for notebooks. Only reads, also while the gateway runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.config.environment import data_directory
from gateway.core.conversation import turns
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.features.calls.rows import views
from gateway.store.location import default_url
from gateway.store.plans import experiment_names
from gateway.store.query import ExchangeFilter, reading
from gateway.store.where import parse

if TYPE_CHECKING:
    from pandas import DataFrame

_OF_SCORER = "scorer version config_hash control_status arm_status control_value arm_value preference compares"
_ONCE = frozenset(_OF_SCORER.split())


def read(url: str | os.PathLike[str] | None = None) -> StoreReader:
    """The store at this URL (`sqlite:///…`, `postgresql://…`), file or data directory.

    None: of the data directory: $GATEWAY_DATA, else ./.gateway. Raises CannotRun if pandas is missing (extra `pandas`).
    """
    _pandas()
    if url is None:
        return StoreReader(default_url(data_directory(None)))
    if "://" in (given := os.fspath(url)):
        return StoreReader(given)
    path = Path(given)
    return StoreReader(default_url(path) if path.is_dir() else f"sqlite:///{path.resolve()}")


class StoreReader:
    """Every method opens a connection of its own, and raises StoreUnavailable if there is no store to read."""

    def __init__(self, url: str) -> None:
        self._url = url

    def answers(
        self, where: str | None = None, since: float | None = None, alias: str | None = None, limit: int = 0
    ) -> DataFrame:
        """One row for each answer, oldest first: the columns of the view `answers`, `question` (the last user message),
        and `score_NAME`, the newest value of each scorer; a caller's feedback is `score_feedback_NAME`.

        where: as in `gateway samples --where`. since: Unix seconds. limit: 0: all. Raises QueryError.
        """
        filter = ExchangeFilter(limit, alias, since, None if where is None else parse(where))
        with reading(self._url) as connection:
            found = views.answer_rows(connection, filter)
            scored = views.score_rows(connection, [row["id"] for row in found])
        frame = _frame([{**row, "question": _question(row.pop("request"))} for row in found], _names(views.answers))
        values: dict[str, dict[str, float | None]] = {}
        for score in scored:
            values.setdefault(_column("score", score["scorer"]), {})[score["exchange_id"]] = score["value"]
        for name in sorted(values):
            frame[name] = frame["id"].map(values[name])
        return _dated(frame, "received")

    def scores(self, *scorers: str) -> DataFrame:
        """Returns one row for each score of these scorers, or of all, the oldest first."""
        with reading(self._url) as connection:
            found = views.score_rows(connection, None, scorers)
        return _dated(_frame(found, ["exchange_id", "scorer", "status", "value"]), "created")

    def pairs(self, experiment: str, plan: str | None = "newest") -> DataFrame:
        """One row for each pair and arm: both answers, their outcomes, times and costs, the `question`, and for each
        scorer `control_NAME`, `arm_NAME` and `difference_NAME` (arm minus control); of a pairwise judge
        `preference_NAME`, for the arm's answer over the control's, ½ for a tie.

        plan: a plan's hash; None means all plans of the experiment. Raises CannotRun for an unknown experiment.
        """
        with reading(self._url) as connection:
            known = views.plans_of(connection, experiment)
            if not known:
                hint = did_you_mean(experiment, experiment_names(connection))
                raise CannotRun(f'no experiment "{experiment}" in the store{hint}')
            found = views.pair_rows(connection, experiment, known[0] if plan == "newest" else plan)
            asked = dict(views.requests_of(connection, list({row["pair"] for row in found})))
        wide: dict[tuple[str, str], dict[str, Any]] = {}
        for row in found:
            values = wide.setdefault((row["pair"], row["arm_id"]), {k: v for k, v in row.items() if k not in _ONCE})
            values.setdefault("question", _question(asked.get(row["pair"], b"")))
            values |= _compared(row)
        columns = [name for name in _names(views.pairs_wide) if name not in _ONCE]
        return _dated(_frame(list(wide.values()), [*columns, "question"]), "received")

    def sql(self, query: str, **parameters: Any) -> DataFrame:
        """The result of a query of your own, with :name for parameters. It cannot write."""
        with reading(self._url) as connection:
            columns, rows = views.own_rows(connection, query, parameters)
        frame: DataFrame = _pandas().DataFrame(rows, columns=columns)
        return frame


def _compared(row: Mapping[str, Any]) -> dict[str, Any]:
    scorer, control, arm = row["scorer"], row["control_value"], row["arm_value"]
    if scorer is None:
        return {}
    if row["compares"] == "pair":
        return {_column("preference", scorer): row["preference"]}
    difference = None if control is None or arm is None else arm - control
    values = {"control": control, "arm": arm, "difference": difference}
    return {_column(name, scorer): value for name, value in values.items()}


def _column(kind: str, scorer: str) -> str:
    return f"{kind}_{''.join(c if c.isalnum() else '_' for c in scorer)}"


def _question(request: bytes) -> str | None:
    """The last user message; None for a body that has none."""
    questions = [text for role, text in turns(bytes(request)) if role == "user"]
    return questions[-1] if questions else None


def _names(view: Any) -> list[str]:
    return [str(column.name) for column in view.columns]


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> DataFrame:
    """Makes a frame. columns: those that an empty frame has as well."""
    known = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    frame: DataFrame = _pandas().DataFrame.from_records(list(rows), columns=list(known))
    return frame


def _dated(frame: DataFrame, column: str) -> DataFrame:
    frame[column] = _pandas().to_datetime(frame[column].astype("float64"), unit="s", utc=True)
    return frame


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ModuleNotFoundError as error:
        raise CannotRun(f"notebooks need pandas: {install_command('pandas')}") from error
