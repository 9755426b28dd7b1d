"""`gateway check`: a line for each mistake, a summary without any, and cautions."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

Run = Callable[..., subprocess.CompletedProcess[str]]
GOOD = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\nredaction: {}\n"


def test_check_sums_up_a_file_without_mistakes(gateway: Run, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(GOOD)
    result = gateway("check", "f.yaml")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "transports: a http1\n1 upstream, 1 model, no keys; 10% of traffic sampled. Ready.\n"


def test_check_says_what_each_variant_changes(gateway: Run, tmp_path: Path) -> None:
    target = "model: m, set: {temperature: 0, stop: null}, system: Be brief., headers: {x-trial: private}}"
    (tmp_path / "f.yaml").write_text(GOOD.replace("model: m}", target))
    shown = gateway("check", "f.yaml").stdout.splitlines()
    [line] = [line for line in shown if line.startswith("variant ")]
    assert line.startswith("variant a/m[stop=null,temperature=0,system=#")
    assert line.endswith(']: temperature 0; stop removed; system "Be brief."; headers x-trial')
    assert "private" not in "\n".join(shown)


def test_check_prints_a_line_per_mistake(gateway: Run, tmp_path: Path) -> None:
    text = GOOD.replace("kind: fake", "kind: fake, api_key: '${NOT_SET_HERE}'").replace(
        "model: m}", "model: m, weight: half}"
    )
    (tmp_path / "f.yaml").write_text(text + "sampelng: {}\n")
    result = gateway("check", "f.yaml")
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "f.yaml: models.m.targets[0].weight: expected a number, got 'half'",
        'f.yaml: sampelng: unknown key; did you mean "sampling"?',
        "f.yaml: upstreams.a.api_key: $NOT_SET_HERE is not set. Set it, or remove the value that uses it",
    ]


def test_check_warns_of_a_stream_server_that_may_evict(gateway: Run, tmp_path: Path, stream_server: Any) -> None:
    """A server that cannot be reached is warned of too; neither is a mistake of the file."""
    (tmp_path / "f.yaml").write_text(GOOD + f"stream: {{url: 'unix://{stream_server.socket}'}}\n")
    assert "caution" not in gateway("check", "f.yaml").stderr
    with redis.Redis(unix_socket_path=str(stream_server.socket)) as client:
        client.config_set("maxmemory-policy", "volatile-ttl")
    result = gateway("check", "f.yaml")
    assert (result.returncode, "maxmemory-policy is volatile-ttl" in result.stderr) == (0, True)
    stream_server.kill()
    result = gateway("check", "f.yaml")
    assert (result.returncode, "caution: stream server: " in result.stderr) == (0, True)


def test_check_warns_of_a_judge_that_decides(gateway: Run, tmp_path: Path) -> None:
    judge = "scorers: {helpful: {use: judge, model: m, criterion: It helps.}}\n"
    swap = "experiments: {swap: {model: m, control: {upstream: a, model: m}, candidate: {upstream: a, model: n}%s}}\n"
    (tmp_path / "f.yaml").write_text(GOOD + judge + swap % ", primary: helpful")
    result = gateway("check", "f.yaml")
    assert result.returncode == 0
    assert "caution: experiments.swap.primary: The judge helpful decides and is not calibrated" in result.stderr
    (tmp_path / "f.yaml").write_text(GOOD + judge + swap % ", primary: error_rate")
    assert "not calibrated" not in gateway("check", "f.yaml").stderr


def test_check_covers_the_options_of_scorers(gateway: Run, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(GOOD + "scorers: {valid_jsn: {}, length: {no_such_option: 1}}\n")
    result = gateway("check", "f.yaml")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("f.yaml: scorers.") for line in lines)
