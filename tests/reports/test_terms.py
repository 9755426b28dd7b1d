"""The words at which a reader stops have the meaning that the glossary gives them."""

from __future__ import annotations

from pathlib import Path

from gateway.reports.terms import TERMS

GLOSSARY = Path(__file__).parents[2] / "docs" / "contributing" / "glossary.md"


def test_each_meaning_is_the_glossarys() -> None:
    page = GLOSSARY.read_text()
    assert {"aa", "effective", "losses", "noise floor", "srm", "withheld"} == set(TERMS)
    for key, term in TERMS.items():
        assert f"| {term.meaning} |" in page, key
        assert term.name != key
