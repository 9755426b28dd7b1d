"""Every form of a file gives the same scores; those of other tools are laid out as their documentation has them."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fixtures.score_tables import write_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.errors import CannotRun
from gateway.features.compare import inspect_logs, lm_eval, score_files
from gateway.features.compare.score_files import open_scores
from gateway.features.compare.scores import ScoreOptions, choose, read_scores


def runs(path: Path, **options: Any) -> dict[str, list[float]]:
    """The scores of a file, by item."""
    chosen = ScoreOptions(**options)
    file = open_scores(path, chosen.wanted)
    return read_scores(file, choose([file], chosen), chosen).runs


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        TEXT.filter(lambda t: not t.replace(".", "").isdigit()), st.floats(-1e6, 1e6), min_size=1, max_size=6
    )
)
def test_every_form_of_a_table_gives_the_same_scores(tmp_path: Path, scores: dict[str, float]) -> None:
    rows = [{"id": item, "score": value} for item, value in scores.items()]
    expected = {item.strip(): [value] for item, value in scores.items()}
    for suffix in ("csv", "tsv", "jsonl", "json", "parquet"):
        assert runs(write_table(tmp_path / f"t.{suffix}", rows)) == expected, suffix


BLOB = {
    "id": "5f0", "timestamp": "2026-11-01 10:00:00.000000", "project_id": "p", "environment": "default",
    "observation_id": None, "session_id": None, "dataset_run_id": "run-1", "source": "EVAL", "comment": None,
    "created_at": "2026-11-01 10:00:00.000000", "updated_at": "2026-11-01 10:00:00.000000",
}  # fmt: skip
"""Langfuse, "Blob Storage Export Field Reference", section Scores:
https://langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields."""


def blob_rows() -> list[dict[str, Any]]:
    rows = []
    for i in range(3):
        core = {**BLOB, "trace_id": f"trace-{i}"}
        rows.append(
            {**core, "id": f"n{i}", "name": "accuracy", "value": i / 2, "data_type": "NUMERIC", "string_value": None}
        )
        rows.append({**core, "id": f"b{i}", "name": "safe", "value": 1, "data_type": "BOOLEAN", "string_value": "True"})
        rows.append(
            {**core, "id": f"c{i}", "name": "tone", "value": i, "data_type": "CATEGORICAL", "string_value": "kind"}
        )
    return rows


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_langfuses_blob_export_has_a_score_a_row(tmp_path: Path, suffix: str) -> None:
    path = write_table(tmp_path / f"scores.{suffix}", blob_rows())
    assert runs(path, score="accuracy") == {"trace-0": [0.0], "trace-1": [0.5], "trace-2": [1.0]}
    assert runs(path, score="safe") == {f"trace-{i}": [1.0] for i in range(3)}
    with pytest.raises(CannotRun, match=r'"kind" is not a number; map words to numbers'):
        runs(path, score="tone")


def test_langfuses_api_has_pages_of_scores(tmp_path: Path) -> None:
    """GET /api/public/v2/scores: {"data": [{"traceId", "name", "value", "dataType", …}], "meta": {…}}."""
    data = [
        {"id": f"s{i}", "traceId": f"t{i}", "name": "helpful", "value": i % 2, "dataType": "BOOLEAN",
         "stringValue": "True", "source": "API", "metadata": {"item": f"item-{i}"}} for i in range(4)
    ]  # fmt: skip
    path = tmp_path / "page.json"
    path.write_text(json.dumps({"data": data, "meta": {"page": 1, "limit": 4, "totalItems": 9, "totalPages": 3}}))
    assert runs(path, id="metadata.item", score="helpful") == {f"item-{i}": [float(i % 2)] for i in range(4)}
    assert runs(path) == {f"t{i}": [float(i % 2)] for i in range(4)}, "its one score needs no name"
    assert open_scores(path, frozenset()).notes == (
        f"{path} is one page of an API's answer: 4 of 9 entries; the others are not compared",
    )


def opik_items() -> list[dict[str, Any]]:
    """ExperimentItemCompare of Opik's REST API: https://www.comet.com/docs/opik/reference/rest-api/experiments."""
    return [
        {"id": f"x{i}", "experiment_id": "e1", "dataset_item_id": f"d{i}", "trace_id": f"t{i}", "output": {},
         "feedback_scores": [{"name": "equals", "value": float(i % 2), "source": "sdk"},
                             {"name": "hallucination", "value": 0.25, "source": "sdk"}]} for i in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("member", [None, "content", "items"])
def test_opiks_items_have_their_scores_in_a_list(tmp_path: Path, member: str | None) -> None:
    path = tmp_path / "items.json"
    path.write_text(json.dumps({member: opik_items(), "total": 3} if member else opik_items()))
    assert runs(path, score="equals") == {"d0": [0.0], "d1": [1.0], "d2": [0.0]}
    assert runs(path, score="hallucination") == {f"d{i}": [0.25] for i in range(3)}


def test_opiks_csv_has_each_score_in_a_column(tmp_path: Path) -> None:
    """The columns of https://www.comet.com/docs/opik/evaluation/advanced/export_experiment_results."""
    rows = [{"dataset.id": f"d{i}", "dataset.input": "q", "output": "a", "equals": i % 2} for i in range(3)]
    path = write_table(tmp_path / "experiment.csv", rows)
    assert runs(path, id="dataset.id", score="equals") == {"d0": [0.0], "d1": [1.0], "d2": [0.0]}


def lm_eval_lines(filters: tuple[str, ...], metric: str = "exact_match") -> list[dict[str, Any]]:
    """Lines of samples_TASK_DATE.jsonl, the members that lm-eval 0.4.13 wrote, less those that are long."""
    return [
        {"doc_id": i, "doc": {"question": f"{i}?", "topic": f"t{i % 2}"}, "target": "7", "filter": name,
         "metrics": [metric], "doc_hash": f"h{i}", metric: float((i + j) % 2)}
        for j, name in enumerate(filters) for i in range(4)
    ]  # fmt: skip


def lm_eval_results(folder: Path, higher: bool = True) -> Path:
    path = folder / "results_2026-11-29T05-26-23.208523.json"
    write_table(
        folder / "samples_gsm_2026-11-29T05-26-23.208523.jsonl", lm_eval_lines(("strict-match", "flexible-extract"))
    )
    write_table(folder / "samples_arc_2026-11-29T05-26-23.208523.jsonl", lm_eval_lines(("none",)))
    write_table(folder / "samples_arc_2026-11-28T01-00-00.000000.jsonl", lm_eval_lines(("none",)) * 3)
    document = {
        "results": {"gsm": {"alias": "gsm"}, "arc": {}, "group": {}},
        "configs": {},
        "versions": {},
        "n-samples": {},
    }
    path.write_text(
        json.dumps({**document, "model_name": "smollm2", "higher_is_better": {"gsm": {"exact_match": higher}}})
    )
    return path


def test_lm_evals_results_find_the_samples_next_to_them(tmp_path: Path) -> None:
    path = lm_eval_results(tmp_path)
    found = runs(path, score="exact_match")
    assert set(found) == {*(f"gsm/{i}" for i in range(4)), *(f"arc/{i}" for i in range(4))}
    assert found["gsm/1"] == [1.0], "of the first filter"
    assert runs(path, score="exact_match,flexible-extract") == {f"gsm/{i}": [float((i + 1) % 2)] for i in range(4)}
    assert open_scores(path, frozenset()).model == "smollm2"
    assert open_scores(lm_eval_results(tmp_path, higher=False), frozenset()).lower == {"exact_match"}
    alone = next(tmp_path.glob("samples_gsm*"))
    assert set(runs(alone)) == {f"gsm/{i}" for i in range(4)}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("samples_gsm8k_2026-11-29T05-26-23.208523.jsonl", "gsm8k"),
        ("samples_mmlu_high_school_2026-11-29T05-26-23.208523.jsonl", "mmlu_high_school"),
        ("samples_mine.jsonl", "mine"),
        ("scores.jsonl", None),
    ],
)
def test_a_file_of_samples_is_named_after_its_task(name: str, task: str | None) -> None:
    assert lm_eval.task_of(Path(name)) == task


def test_a_table_that_is_only_named_like_lm_evals_samples_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "samples_mine.jsonl"
    write_table(path, [{"id": "a", "score": 0.5}, {"id": "b", "score": 1}])
    assert runs(path) == {"a": [0.5], "b": [1.0]}
    write_table(path, lm_eval_lines(("none",)))
    assert set(runs(path)) == {f"mine/{i}" for i in range(4)}


def test_lm_evals_results_without_samples_say_how_to_get_them(tmp_path: Path) -> None:
    path = lm_eval_results(tmp_path)
    for samples in tmp_path.glob("samples_*"):
        samples.unlink()
    with pytest.raises(CannotRun, match=r"no samples_TASK_DATE.jsonl .* run lm-eval with --log_samples"):
        open_scores(path, frozenset())


def inspect_archive(path: Path, header_bytes: int = 2) -> Path:
    """An archive with the members of an inspect log: https://inspect.aisi.org.uk/eval-logs.html."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "{}")
        archive.writestr("samples/q0_epoch_1.json", "{}")
        archive.infolist()[0].file_size = header_bytes  # as its table of contents says
    return path


def test_an_inspect_log_needs_its_reader(tmp_path: Path) -> None:
    """Real logs are read in tests/real/test_compare.py, where the reader is installed."""
    with pytest.raises(CannotRun, match=r'need its reader: pip install "\.\[inspect\]"'):
        open_scores(inspect_archive(tmp_path / "a.eval"), frozenset())
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"version": 2, "status": "success", "eval": {}, "plan": {}, "samples": []}))
    with pytest.raises(CannotRun, match="need its reader"):
        open_scores(path, frozenset())
    (tmp_path / "b.eval").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(CannotRun, match=r"b.eval: not a log of inspect: .*still being written"):
        open_scores(tmp_path / "b.eval", frozenset())


def test_a_log_of_a_newer_inspect_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader refuses it as inspect_ai does: it raises what it likes."""

    def read(path: str, **options: Any) -> None:
        raise KeyError("version 9")

    reader = ModuleType("inspect_ai.log")
    reader.read_eval_log = read  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "inspect_ai.log", reader)
    words = r"new.eval: not a log that this inspect_ai reads \(KeyError: 'version 9'\); .*pip install -U inspect-ai"
    with pytest.raises(CannotRun, match=words):
        open_scores(inspect_archive(tmp_path / "new.eval"), frozenset())


def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = inspect_archive(tmp_path / "bomb.eval", inspect_logs.LARGEST_BYTES + (1 << 20))
    assert path.stat().st_size < 1000
    with pytest.raises(CannotRun, match=r"bomb.eval: would unpack to 1,025 MB; at most 1,024 MB are read"):
        open_scores(path, frozenset())


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "json"])
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"large.{suffix}"
    most = score_files.LARGEST_JSON_BYTES if suffix == "json" else score_files.LARGEST_TABLE_BYTES
    with path.open("wb") as file:
        file.truncate(most + 1)  # a hole: it takes no space
    with pytest.raises(
        CannotRun, match=r"large\.\w+: [\d,]+ MB; at most [\d,]+ MB are read: keep only the ids and scores"
    ):
        open_scores(path, frozenset())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "empty; expected a first line with the columns id,score"),
        ("a.csv", 'id,score\nq1,"1\n', "line 2: not CSV"),
        ("a.csv", b"id,score\nq\xff,1\n", "line 2: not UTF-8 text"),
        ("a.csv", "id,id\n1,2\n", "column id appears twice"),
        ("a.jsonl", '{"id": 1, "score": 1}\n{"id"\n', "line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: expected a JSON object, got list"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[1, 2]", "item 1: expected a JSON object, got int"),
        ("a.json", '{"a": 1}', "expected a list of objects, alone or as one of data, items"),
        ("a.parquet", "no", "not Parquet"),
        ("a.csv", "id,score\n", "there are no rows"),
    ],
)
def test_a_file_that_cannot_be_read_names_the_place(tmp_path: Path, name: str, content: Any, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CannotRun) as caught:
        runs(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
