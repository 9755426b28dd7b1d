"""`gateway compare` as a user runs it: exit codes, what goes where, and what it imports."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.json_outputs import conforms
from fixtures.score_tables import write_table
from scipy import optimize, stats

Table = Callable[..., Path]
Compare = Callable[..., Any]
RNG = np.random.default_rng(21)
CONTROL = RNG.normal(0.5, 0.1, 60)
BETTER, WORSE, UNCLEAR = (CONTROL + RNG.normal(shift, 0.1, 60) for shift in (0.1, -0.2, 0.0))


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table of scores: table("a.csv", [1, 0]), with ids q0, q1, …; further columns by name."""

    def write(name: str, scores: Sequence[Any], **columns: Sequence[Any]) -> Path:
        rows = [{"id": f"q{i}", "score": score} for i, score in enumerate(scores)]
        more = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return write_table(
            tmp_path / name, [{**row, **extra} for row, extra in zip(rows, more or [{}] * len(rows), strict=True)]
        )

    return write


@pytest.fixture
def files(table: Table) -> dict[str, Path]:
    """a.csv, and files with a better, a worse and a similar model."""
    scores = {"a": CONTROL, "better": BETTER, "worse": WORSE, "unclear": UNCLEAR}
    return {name: table(f"{name}.csv", values.tolist()) for name, values in scores.items()}


@pytest.mark.parametrize(
    ("candidates", "code", "verdict"),
    [
        (["better"], 0, "ship"),
        (["worse"], 1, "reject"),
        (["unclear"], 2, "hold"),
        (["better", "worse"], 1, "reject"),
        (["better", "unclear"], 2, "hold"),
    ],
)
def test_the_exit_code_is_the_verdict(
    files: dict[str, Path], compare: Compare, candidates: list[str], code: int, verdict: str
) -> None:
    done = compare("a.csv", *(f"{name}.csv" for name in candidates), "--json", "--range", "-2,3")
    assert done.exit_code == code
    found = conforms("compare", done.stdout)
    assert found["verdict"] == verdict
    assert len(found["comparisons"]) == (1 if len(candidates) == 1 else 3)


def test_a_verdict_of_the_command_line_is_scipys(files: dict[str, Path], compare: Compare) -> None:
    low, high = stats.ttest_rel(BETTER, CONTROL).confidence_interval(0.9)
    found = json.loads(compare("a.csv", "better.csv", "--json", "--alpha", "0.1", "--margin", "0.01").stdout)
    difference = found["comparisons"][0]["difference"]
    assert (difference["low"], difference["high"]) == pytest.approx((low, high))
    assert (found["margin"], found["alpha"], found["items"], found["guessed"]) == (0.01, 0.1, 60, ["id", "score"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give the scores of two models or more"),
        (["a.csv"], "give the scores of two models or more"),
        (["a.csv", "a.csv"], "a file is given twice"),
        (["a.csv", "gone.csv"], "no file gone.csv"),
        (["a.csv", "notes.txt"], "notes.txt: .txt is not a format that is read; expected .csv, .tsv, .jsonl"),
        (["a.csv", "better.csv", "--margn", "1"], "No such option"),
        (["a.csv", "better.csv", "--margin", "-1"], "--margin"),
        (["a.csv", "better.csv", "--alpha", "2"], "--alpha"),
        (["a.csv", "better.csv", "--range", "1"], "expected LOW,HIGH, as in 0,1 or 1,5"),
        (["a.csv", "better.csv", "--missing", "none"], "expected a number, drop or fail"),
        (["a.csv", "better.csv", "--score", "scor"], 'has no column scor; did you mean "score"?'),
        (["a.csv", "better.csv", "--json", "--markdown"], "not both"),
    ],
)
def test_wrong_usage_exits_with_64(
    files: dict[str, Path], compare: Compare, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    done = compare(*arguments)
    assert done.exit_code == 64
    assert done.stdout == ""
    assert words in " ".join(done.stderr.split())


def test_files_that_cannot_be_compared_exit_with_2_and_write_nothing(
    files: dict[str, Path], compare: Compare, table: Table, tmp_path: Path
) -> None:
    """1 means reject, and nothing else."""
    table("bad.csv", [1, "good", 0])
    (tmp_path / "out.html").write_text("before")
    done = compare("a.csv", "bad.csv", "--score", "score", "--html", "out.html")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert 'bad.csv: line 3: score: "good" is not a number' in done.stderr
    assert (tmp_path / "out.html").read_text() == "before"
    assert compare("a.csv", "better.csv", "--html", "gone/out.html").exit_code == 2


def test_a_terminal_has_the_sentence_a_table_a_chart_and_the_power(files: dict[str, Path], compare: Compare) -> None:
    done = compare("a.csv", "unclear.csv", "--margin", "0.02")
    assert done.stdout.startswith("On 60 items, from a to unclear: ")
    assert re.search(
        r"about [\d\u202f]+ more items would decide a margin of 0.02 if the difference stays as it is", done.stdout
    )
    assert "├" in done.stdout
    assert "●" in done.stdout
    assert "one look at a number of items that was fixed beforehand" in done.stdout
    assert "Columns taken: id as the id" in done.stdout


def test_the_page_is_complete_private_and_escaped(compare: Compare, table: Table, tmp_path: Path) -> None:
    table("a.csv", CONTROL.tolist())
    table("<img src=x>.csv", BETTER.tolist())
    done = compare("a.csv", "<img src=x>.csv", "--html", "out.html")
    assert done.exit_code == 0
    assert "wrote out.html" in done.stderr
    page = (tmp_path / "out.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert "<img" not in page
    assert "&lt;img src=x&gt;" in page
    assert "<svg" in page
    assert "✓ Ship" in page
    assert stat.S_IMODE((tmp_path / "out.html").stat().st_mode) == 0o600


def test_markdown_is_for_a_pull_request_and_mentions_nobody(compare: Compare, table: Table) -> None:
    table("a.csv", CONTROL.tolist())
    table("@team | <b>new.csv", WORSE.tolist())
    done = compare("a.csv", "@team | <b>new.csv", "--markdown")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "**✗ Reject**"
    assert "| Models | Control | Candidate | Difference | Interval | Better, alike, worse | Verdict |" in lines
    [row] = [line for line in lines if line.startswith("| a → ")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 8
    assert "@team" not in done.stdout
    assert "<b>" not in done.stdout
    assert lines.count("</details>") == 1


def test_many_runs_of_an_item_show_their_variance(compare: Compare, table: Table, tmp_path: Path) -> None:
    for name, scores in (("a", CONTROL), ("b", BETTER)):
        rows = [f"q{i},{run},{value + 0.1 * (-1) ** run}" for i, value in enumerate(scores) for run in range(4)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,epoch,score", *rows]))
    done = compare("a.csv", "b.csv")
    assert "Runs of one item" in done.stdout
    assert "60 items with several rows (first: q0, q1, q2): they count as runs of one item" in done.stdout
    variance = conforms("compare", compare("a.csv", "b.csv", "--json").stdout)["models"][0]["variance"]
    assert variance["within"] == pytest.approx(4 / 3 * 0.01)
    assert variance["items"] == 60


def test_lower_is_better_is_asked_for_where_the_file_says_so(compare: Compare, tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        lines = [{"doc_id": i, "filter": "none", "metrics": ["loss"], "loss": 1.0 + i % 3} for i in range(9)]
        (folder / "samples_t_2026-11-29T00-00-00.0.jsonl").write_text("\n".join(map(json.dumps, lines)))
        document = {"results": {"t": {}}, "configs": {}, "higher_is_better": {"t": {"loss": False}}}
        (folder / "results_2026-11-29T00-00-00.0.json").write_text(json.dumps(document))
    results = [f"{name}/results_2026-11-29T00-00-00.0.json" for name in ("a", "b")]
    done = compare(*results)
    assert done.exit_code == 64
    assert "lower is better of loss: give --lower-is-better" in " ".join(done.stderr.split())
    assert compare(*results, "--lower-is-better", "--margin", "2").exit_code == 0


def langfuse(i: int, score: float) -> dict[str, Any]:
    """A row of Langfuse's blob storage export of scores, whose metadata name the item; see test_score_files.py."""
    return {
        "id": f"s{i}", "timestamp": "2026-11-01 10:00:00.000000", "project_id": "p", "environment": "default",
        "trace_id": f"t{i}-{score}", "observation_id": None, "session_id": None, "dataset_run_id": "run",
        "name": "quality", "value": score, "string_value": None, "data_type": "NUMERIC", "source": "EVAL",
        "metadata": json.dumps({"item": f"q{i}"}),
    }  # fmt: skip


def opik(i: int, score: float) -> dict[str, Any]:
    """An item of an experiment, as Opik's REST API has it."""
    scores = [{"name": "quality", "value": score, "source": "sdk"}, {"name": "other", "value": 1.0, "source": "sdk"}]
    return {
        "id": f"x{i}{score}",
        "dataset_item_id": f"q{i}",
        "trace_id": f"t{i}",
        "output": {},
        "feedback_scores": scores,
    }


@pytest.mark.parametrize(
    ("row", "suffix", "options"),
    [
        (langfuse, "csv", ("--id", "metadata.item")),
        (langfuse, "jsonl", ("--id", "metadata.item")),
        (langfuse, "parquet", ("--id", "metadata.item")),
        (opik, "json", ()),
    ],
)
def test_exports_of_other_tools_have_the_verdict_of_scipy(
    compare: Compare, tmp_path: Path, row: Callable[[int, float], dict[str, Any]], suffix: str, options: tuple[str, ...]
) -> None:
    for name, values in (("old", CONTROL), ("new", BETTER)):
        write_table(tmp_path / f"{name}.{suffix}", [row(i, float(value)) for i, value in enumerate(values)])
    done = compare(f"old.{suffix}", f"new.{suffix}", "--score", "quality", "--range", "-2,3", *options, "--json")
    low, high = stats.ttest_rel(BETTER, CONTROL).confidence_interval(0.95)
    difference = conforms("compare", done.stdout)["comparisons"][0]["difference"]
    assert (difference["low"], difference["high"]) == pytest.approx((low, high))
    assert done.exit_code == 0
    assert low > -0.02, "by hand, it ships"


def tango(better: int, worse: int, n: int, d: float) -> float:
    """The score statistic of Tango 1998, equations 24 to 26, of the difference d."""
    b = (2 * n - better + worse) * d - better - worse
    q = (np.sqrt(b * b + 8 * n * worse * d * (1 - d)) - b) / (4 * n)
    return float((better - worse - n * d) / np.sqrt(n * (2 * q + d * (1 - d))))


def test_files_of_lm_eval_about_smollm2_have_the_interval_of_scipy(compare: Compare) -> None:
    """Eight capitals at temperature 0 and 1.5, by lm-eval 0.4.13 with --log_samples; tests/real/ makes them again.

    By hand, with Tango's interval and Student's quantile: right at 0 alone in two, at 1.5 alone in one.
    """
    files = [next((Path(__file__).parent / "lm_eval" / name).glob("results_*.json")) for name in ("greedy", "hot")]
    found = conforms("compare", compare(*files, "--json").stdout)
    t, ends = stats.t.ppf(0.975, 7), []
    for sign, bracket in ((1, (-0.999, -0.125)), (-1, (-0.125, 0.999))):
        ends.append(optimize.brentq(lambda d, sign=sign: sign * tango(1, 2, 8, d) - t, *bracket))
    difference = found["comparisons"][0]["difference"]
    assert (difference["low"], difference["high"]) == pytest.approx(ends)
    assert [model["name"] for model in found["models"]] == ["smollm2 (greedy)", "smollm2 (hot)"]
    assert [model["mean"]["value"] for model in found["models"]] == [0.875, 0.75], "as lm-eval's own results say"
    assert (found["verdict"], found["score"], found["items"]) == ("hold", "exact_match", 8)


def test_the_page_has_the_result_of_its_command(compare: Compare, table: Table) -> None:
    draw = random.Random(7)
    old = [int(draw.random() < 0.62) for _ in range(400)]
    table("old.csv", old)
    table("new.csv", [1 - score if draw.random() < (0.06 if score else 0.25) else score for score in old])
    page = (Path(__file__).parents[3] / "docs" / "compare-and-replay.md").read_text()
    found = json.loads(compare("old.csv", "new.csv", "--json").stdout)
    assert f'*"{found["sentence"]}"*' in page
    table_lines = [line for line in compare("old.csv", "new.csv", "--markdown").stdout.splitlines() if "old →" in line]
    assert table_lines[0] in page
    assert {
        name for name in (*found, *found["comparisons"][0], *found["models"][0]) if f"`{name}`" not in page
    } == set()


def test_little_is_imported_for_two_csv_files(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Runs in a process of its own, as on a machine where only this is done; its time is printed."""
    heavy = {
        "sqlalchemy",
        "alembic",
        "uvicorn",
        "pydantic",
        "redis",
        "starlette",
        "httpx2",
        "jinja2",
        "pyarrow",
        "scipy",
    }
    program = (
        "import sys, time\n"
        "started = time.perf_counter()\n"
        "from gateway.__main__ import main\n"
        f"sys.argv = ['gateway', 'compare', {str(files['a'])!r}, {str(files['better'])!r}]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    code = ended.code\n"
        f"loaded = sorted({heavy!r} & set(sys.modules))\n"
        "print(code, loaded, f'{time.perf_counter() - started:.2f} s', sep=';', file=sys.stderr)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ)
    code, loaded, took = done.stderr.strip().splitlines()[-1].split(";")
    assert (code, loaded) == ("0", "[]")
    assert done.stdout.startswith("On 60 items, from a to better: better on score")
    with capsys.disabled():
        print(f"\ngateway compare a.csv b.csv: {took} with its imports")  # noqa: T201


def test_a_directory_of_lm_eval_is_its_newest_results(compare: Compare, tmp_path: Path) -> None:
    """--output_path OUT writes OUT/MODEL/results_DATE.json, one more at each run."""
    recorded = Path(__file__).parent / "lm_eval"
    for name in ("greedy", "hot"):
        shutil.copytree(recorded / name, tmp_path / name / "smollm2")
        [results] = (tmp_path / name / "smollm2").glob("results_*.json")
        results.with_name("results_2020-01-01T00-00-00.000000.json").write_text(results.read_text())
    found = conforms("compare", compare("greedy", "hot/smollm2", "--json").stdout)
    assert (found["verdict"], found["items"]) == ("hold", 8)
    done = compare(".", "hot")
    assert done.exit_code == 64
    assert "it has results of 2 models; name their directories: greedy/smollm2 hot/smollm2" in " ".join(
        done.stderr.split()
    )
    (tmp_path / "empty").mkdir()
    assert "no results_DATE.json of lm-eval is in it" in " ".join(compare("empty", "hot").stderr.split())
