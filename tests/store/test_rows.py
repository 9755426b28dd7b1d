"""Every value lands in the column of its name, and one opinion has one id."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid5

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import Completion, completion_of
from gateway.core.exchange import STORED_FIELDS, Attempt, Feedback, Target, Usage, new_id
from gateway.store.rows import OWN, SHARED, ScoreIds, exchange_row, feedback_row, model_of, score_id_of, score_rows
from gateway.store.tables import exchanges, feedback, scores

pytestmark = pytest.mark.dialect


def named(table, row) -> dict:
    return dict(zip(table.columns.keys(), row, strict=True))


def test_an_exchange_lands_in_its_columns(store, exchange):
    target = Target("local", "small")
    given = exchange(
        "0.5", experiment="swap", plan="p", arm="control", truncated=True, client_id="theirs", first_token_s=0.2,
        attempts=(Attempt(target, 503, "HTTP 503", 0.1), Attempt(target, 200, None, 0.4, Usage(3, 5))),
    )  # fmt: skip
    row = named(exchanges, exchange_row(replace(store.judged(given), cost_usd=0.25), 99.0))
    assert row["cost_usd"] == 0.25
    for name in row.keys() & {f for f in type(given).__dataclass_fields__ if f not in ("attempts", "upstream_id")}:
        assert row[name] == getattr(given, name), name
    assert (row["upstream"], row["model"]) == ("local", "small")
    assert (row["text"], row["finish_reason"], row["stored"]) == ("0.5", "stop", 99.0)
    assert (row["tokens"], row["input_tokens"], row["output_tokens"]) == (8, 3, 5)
    assert [a["status"] for a in orjson.loads(row["attempts"])] == [503, 200]


@pytest.mark.parametrize("name", STORED_FIELDS)
def test_every_field_in_the_table_is_a_column_and_in_the_row(name, store, exchange):
    given = exchange("0.5")
    row = named(exchanges, exchange_row(store.judged(given), 99.0))
    assert row[name] == getattr(given, name)
    assert exchanges.c[name].nullable == STORED_FIELDS[name].endswith("| None")


def test_usage_that_only_room_1_saw_is_kept(store, exchange):
    silent = exchange(response=b"{}", usage=Usage(7, 2, 4, 1))
    row = named(exchanges, exchange_row(replace(store.judged(exchange()), exchange=silent, completion=Completion()), 0))
    assert (row["tokens"], row["cached_input_tokens"], row["reasoning_tokens"]) == (9, 4, 1)


def test_a_score_lands_in_its_columns(store, exchange, stated_scorer):
    store.scorers["stated"] = stated_scorer(share=0.5)
    given = exchange("0.25", pi=0.2, stratum="slow", experiment="swap", plan="p", arm="candidate")
    (row,) = score_rows(store.judged(given), store.scorers, 99.0)
    assert row["exchange_id"] == given.id
    assert (row["scorer"], row["version"], row["config_hash"], row["kind"]) == ("stated", "1", "c1", "code")
    assert (row["status"], row["value"], row["value01"], row["label"]) == ("scored", 0.25, 0.25, "label")
    assert row["pi"] == pytest.approx(0.1)  # of the exchange, times that of the scorer
    assert (row["stratum"], row["experiment"], row["plan"], row["arm"]) == ("slow", "swap", "p", "candidate")
    assert (row["answered"], row["created"]) == (given.received, 99.0)


def test_characters_that_postgresql_refuses_are_replaced(store, exchange):
    body = orjson.dumps({"choices": [{"index": 0, "message": {"content": "a\0b"}}]})
    given = exchange(response=body)
    row = named(exchanges, exchange_row(replace(store.judged(exchange()), exchange=given,
                completion=completion_of(given)), 0))  # fmt: skip
    assert row["text"] == "a\ufffdb"


@given(st.uuids(), st.text(), st.text(), st.text())
def test_a_score_id_is_a_hash_with_its_exchanges_time(namespace, scorer, version, hashed):
    made = score_id_of(str(namespace), scorer, version, hashed)
    hash5 = uuid5(namespace, f"{scorer}\0{version}\0{hashed}\x000")
    assert UUID(made).version == 8
    assert UUID(made).bytes[:6] == namespace.bytes[:6]
    assert UUID(made).bytes[7:] == hash5.bytes[7:]


def test_score_ids_stand_in_the_order_of_their_exchanges():
    ids = [score_id_of(new_id(now_ns=ms * 1_000_000), f"s{ms % 7}", "1", "c") for ms in range(1, 500)]
    assert ids == sorted(ids)


def test_an_exchange_whose_id_is_not_a_uuid_still_has_score_ids(store, exchange):
    one, two = (ScoreIds().of(store.judged(exchange(id=i))) for i in ("a", "b"))
    assert one != two


def test_every_column_of_a_score_is_shared_or_its_own():
    assert sorted((*SHARED, *OWN)) == sorted(scores.columns.keys())


def test_ids_can_be_known_without_the_rows(store, exchange, stated_scorer):
    store.scorers["other"] = stated_scorer(name="other")
    judged = store.judged(exchange())
    ids = [score_id_of(judged.exchange.id, name, "1", "c1") for name in ("stated", "other")]
    assert ScoreIds().of(judged) == ids == [row["score_id"] for row in score_rows(judged, store.scorers, 0.0)]


def test_one_score_of_two_scorers_has_two_unit_values(store, exchange, stated_scorer):
    store.scorers = {"up": stated_scorer(name="up"), "down": stated_scorer(name="down", direction="minimise")}
    judged = store.judged(exchange("0.25"))
    same = [r._replace(score=judged.results[0].score) for r in judged.results]
    made = score_rows(replace(judged, results=same), store.scorers, 0.0)
    assert [(row["scorer"], row["value01"]) for row in made] == [("up", 0.25), ("down", 0.75)]


def test_feedback_lands_in_its_columns():
    row = named(feedback, feedback_row(Feedback("e", "f", "web", 1.0, "thumb", 1.0, "up", "nice", "better")))
    assert row == {
        "feedback_id": "f", "exchange_id": "e", "caller": "web", "at": 1.0, "name": "thumb", "value": 1.0,
        "label": "up", "comment": "nice", "correction": "better", "data_type": "numeric", "resolved": None,
    }  # fmt: skip


def test_a_model_is_labelled_with_its_upstream(exchange):
    assert model_of(exchange(target=Target("a", "b/c"))) == "a/b/c"
