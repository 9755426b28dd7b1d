"""`gateway.read` in a notebook: an experiment's pairs, answers and scores as DataFrames, and the page's own code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import gateway
from gateway.core.errors import CannotRun
from gateway.core.exchange import Feedback
from gateway.store.engine import StoreUnavailable
from gateway.store.where import QueryError

PAGE = Path(__file__).parents[4] / "docs" / "replace-a-model.md"
QUESTIONS = ("a?", "a long question?")


@pytest.fixture
async def store(room, exchange, paired, plan):
    """Twenty pairs of the experiment `swap`, half of them repeated, one failed candidate, and a thumb."""
    pytest.importorskip("pandas", reason="pandas is not installed (extra pandas)")
    await room.begin(plan)
    sent = []
    for i in range(20):
        arms = {"candidate": "failed" if i == 7 else f"{(i % 5) / 10}"}
        arms |= {"repeat": "0.5"} if i % 2 else {}
        body = b'{"messages":[{"role":"user","content":"%s"}]}' % QUESTIONS[i % 2].encode()
        sent += paired(plan, "0.5", arms, request=body, received=1000.0 + i, reference="0.5")
    alone = exchange("1", received=2000.0, pi=0.5)
    thumb = Feedback(sent[0].id, "f", "web", 1.0, "thumb", 1.0)
    async with room.consuming():
        await room.send(*sent, alone, thumb)
        await room.until_read()
        await room.until(lambda: room.sql("SELECT count(*) FROM plans WHERE experiment = 'swap'") == [(1,)])
    return gateway.read(room.store_url)


async def test_pairs_are_side_by_side(store):
    pairs = store.pairs("swap")
    assert len(pairs) == 30
    assert pairs["arm"].value_counts().to_dict() == {"candidate": 20, "repeat": 10}
    first = pairs[pairs["arm"] == "candidate"].iloc[3]
    assert (first["question"], first["control_text"], first["arm_text"]) == ("a long question?", "0.5", "0.3")
    assert (first["control_stated"], first["arm_stated"]) == (0.5, 0.3)
    assert first["difference_stated"] == pytest.approx(-0.2)
    assert first["reference"] == "0.5"
    assert (pairs["arm_outcome"] == "upstream_error").sum() == 1
    assert "UTC" in str(pairs["received"].dtype)
    assert store.pairs("swap", plan=None).equals(pairs)


async def test_answers_have_a_column_for_each_scorer(store):
    answers = store.answers()
    assert len(answers) == 51
    assert answers["score_feedback_thumb"].dropna().tolist() == [1.0]
    alone = answers.iloc[-1]
    assert (alone["arm"], alone["score_stated"], alone["weight"], alone["served_id"]) == ("none", 1.0, 2.0, alone["id"])
    assert len(store.answers("role=served", limit=5)) == 5
    assert len(store.answers("scorer=stated value>0.9")) == 1
    assert store.answers("alias=nobody").empty
    shadows = store.answers("role=shadow")
    assert set(shadows["served_id"]) <= set(answers["id"])


async def test_scores_are_rows(store):
    scores = store.scores("stated")
    assert len(scores) == 51
    assert set(store.scores()["scorer"]) == {"stated", "feedback:thumb"}


async def test_mistakes_are_named(store, tmp_path):
    with pytest.raises(CannotRun, match='no experiment "swop" in the store; did you mean "swap"'):
        store.pairs("swop")
    with pytest.raises(QueryError, match="valeu"):
        store.answers("valeu<1")
    with pytest.raises(StoreUnavailable, match="no store at"):
        gateway.read(tmp_path / "none.db").scores()
    with pytest.raises(AttributeError, match="no attribute 'write'"):
        gateway.write  # noqa: B018


async def test_sql_reads_and_cannot_write(store):
    found = store.sql("SELECT count(*) AS n FROM pairs_wide WHERE arm = :arm", arm="repeat")
    assert found["n"].tolist() == [10]
    with pytest.raises(Exception, match=r"readonly|read-only"):
        store.sql("DELETE FROM exchanges")


async def test_the_store_is_found_by_directory_file_or_url(store, room, monkeypatch):
    path = Path(room.store_url.removeprefix("sqlite:///"))
    monkeypatch.setenv("GATEWAY_DATA", str(path.parent))
    assert {len(gateway.read(each).scores()) for each in (None, path, path.parent, room.store_url)} == {52}


def test_without_pandas_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CannotRun, match=r'pip install "assay-gateway\[pandas\]"'):
        gateway.read()


async def test_the_code_of_the_page_runs_and_answers(store, room, monkeypatch, capsys):
    monkeypatch.setenv("GATEWAY_DATA", str(Path(room.store_url.removeprefix("sqlite:///")).parent))
    blocks = re.findall(r"^```python in a notebook\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/replace-a-model.md", "exec"), names)  # noqa: S102 - the page's own code
    printed = capsys.readouterr().out
    for expected in (r"small\s+0\.\d+", r"-0\.\d+ ± 0\.\d+ over \d+ pairs", r"candidate\s+stated\s+-0\.\d+"):
        assert re.search(expected, printed), expected
