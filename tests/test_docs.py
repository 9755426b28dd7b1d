"""What the README says is so."""

from __future__ import annotations

import re
from pathlib import Path

from gateway import config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_config_in_the_readme_is_valid() -> None:
    [text] = blocks("yaml")
    read = config.parse(text, environ={"OPENAI_API_KEY": "sk-x"})
    assert read.models["chat"].cut == "continue"
    assert len(text.splitlines()) <= 22


def test_every_file_that_the_readme_names_is_there() -> None:
    tree = README[README.index("## The tree") :]
    for word in re.findall(r"([a-z0-9_]+\.py|[a-z]+/)", tree):
        places = [ROOT / word, ROOT / "gateway" / word, *(ROOT / "gateway" / d / word for d in ("proxy", "evals"))]
        assert any(p.exists() for p in places), word


def test_the_readme_speaks_of_no_machine_and_no_registry() -> None:
    assert not re.search(r"/(root|home|work|tmp)/|pypi\.org|files\.pythonhosted", README)
