"""The page: every section, in one file that loads nothing, for any text in the store."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.core.sanitize import plain
from gateway.reports.html import prose
from gateway.reports.model import RampChangeShown, RampHistory
from gateway.reports.number_format import interval
from gateway.verdict.report.html import to_html

SECTIONS = [
    "The difference, as pairs came", "Gates", "Metrics", "Win, tie, loss", "Like the control?", "Several candidates",
    "Where in the traffic", "Latency", "Arms, and what they cost", "Pairs worth reading", "Withheld", "Limits",
    "How this was decided",
]  # fmt: skip


def test_the_page_has_the_verdict_and_every_section(report, read):
    page = read(to_html(report()))
    assert page.one("h1").text == (
        "llama-y: helpfulness 0.735 instead of 0.731; between 0.011 worse and 0.019 better. Ship."
    )
    assert page.one("p", "todo").text == "Switch to llama-y."
    assert plain(report().sentence) in page.text.replace("\u00a0", " "), "folded"
    assert [h.text for h in page.all("h2")] == SECTIONS
    assert page.one("span", "badge").text.endswith("Ship")
    tiles = page.one("dl", "tiles").text
    assert "1\u202f240" in tiles
    assert "\u221271" in tiles, "the candidate costs 71 % less"


@pytest.mark.parametrize("kind", ["ship", "hold", "reject", "nothing", "hostile"])
def test_the_page_loads_nothing_and_runs_nothing(report, read, kind):
    text = to_html(report(kind))
    page = read(text)
    assert not {e.name for e in page.all()} & {"script", "img", "link", "iframe", "object", "form", "a", "base"}
    assert not [name for e in page.all() for name in e.attributes if name.startswith("on") or name in ("src", "href")]
    assert not re.search(r"url\(|@import", page.one("style").text)
    policy = next(m.attributes["content"] for m in page.all("meta") if "content" in m.attributes)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert len({e.attributes["id"] for e in page.all() if "id" in e.attributes}) == sum(
        "id" in e.attributes for e in page.all()
    )


def test_hostile_text_stays_text(report, read, hostile):
    page = read(to_html(report("hostile")))
    assert page.one("h1").text.startswith("script><img src=x onerror=a…"), "the name of a model, as text"
    assert plain(hostile) in page.text.replace("\u00a0", " ")
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_the_page_has_styles_for_phones_print_and_dark(report, read):
    style = read(to_html(report())).one("style").text
    for query in ("prefers-color-scheme: dark", "@media print", "max-width"):
        assert query in style
    assert {m.attributes.get("name") for m in read(to_html(report())).all("meta")} >= {"viewport"}


def test_a_hold_gives_its_reasons(report, read):
    page = read(to_html(report("hold")))
    assert [li.text for li in page.all("ul", "reasons")[0].all("li")] == list(report("hold").reasons)
    assert page.one("h1").text == "llama-y: no verdict, since too many judgements failed. Hold."
    assert page.one("p", "todo").text.startswith("Gate judge: 9.1 % of the candidate's verdicts failed")
    assert page.one("ul", "cautions").one("li").text == f"Caution: {report('hold').cautions[0]}"
    assert [li.one("span", "tone").text[-3:] for li in page.one("ul", "gates").all("li")] == ["own", "een", "red"]


def test_charts_end_with_the_interval_of_the_heading(report, read):
    """The last interval is not that of the band, which holds at every look and is wider than the last look's."""
    made = report()
    wide = tuple(replace(each, points=((1, 0.0, -9.0, 9.0), (1240, 0.004, -0.2, 0.2))) for each in made.trails)
    page = read(to_html(replace(made, trails=wide)))
    texts = [desc.text for desc in page.all("desc")]
    decides = interval(made.primary.difference, 3)
    assert any(f"interval {decides}; the margin is" in text for text in texts), texts
    assert not any("−0.20 … +0.20" in text for text in texts)
    assert "Bar at the end: the interval that decides" in page.text


def test_several_candidates_are_side_by_side(report, read):
    first, second = report(), replace(report("hold"), candidate="mistral")
    page = read(to_html(first, [first, second]))
    table = next(t for t in page.all("table") if t.one("caption").text == "The candidates, side by side")
    rows = [row.text for row in table.all("tr")[1:]]
    assert rows[0].startswith("llama")
    assert "Ship" in rows[0]
    assert rows[1].startswith("mistral")
    assert "Hold" in rows[1]
    assert "9\u202f500" in rows[1]
    assert len(table.all("svg")) == 2
    assert "side by side" not in "".join(h.text for h in read(to_html(first, [first])).all("h2"))


def test_the_first_screen_is_open_and_the_rest_folded(report, read):
    page = read(to_html(report()))
    folded = [h.text for h in page.one("details", "rest").all("h2")]
    assert folded == SECTIONS[3:]
    assert "Price so far" in page.one("dl", "tiles").text
    meanings = {each.attributes["id"] for each in page.all("span", "meaning")}
    assert {each.attributes["popovertarget"] for each in page.all("button", "term")} == meanings


def test_a_hold_shows_the_remaining_work_and_how_to_shorten_it(report, read):
    page = read(to_html(report("hold")))
    table = next(t for t in page.all("table") if t.one("caption").text == "What is left until the verdict")
    assert all(part in table.text for part in ("helpfulness", "1\u202f900", "9\u202f500", "2.0 days", "failed"))
    tiles = page.one("dl", "tiles").text
    assert "Still to go9\u202f500 requests2.0 days at this pace; for helpfulness" in tiles
    assert "repeat_control 0.25 → 1: about 700 requests" in page.text
    assert "What next" not in [h.text for h in read(to_html(report())).all("h2")]


def test_regressions_are_first_with_the_right_answer(report, read):
    page = read(to_html(report("hold")))
    assert [h.text for h in page.all("h3")] == ["Regressions: another answer", "Other pairs"]
    assert "Right answer" in page.all("article", "pair")[0].text
    assert "Six minutes." in page.all("article", "pair")[0].text
    assert "Right answer" not in page.all("article", "pair")[1].text


def test_answers_are_side_by_side_with_differences_marked(report, read):
    pairs = read(to_html(report())).all("article", "pair")
    assert len(pairs) == 3
    assert [d.text for d in pairs[0].all("ins")][:1] == ["twelve"]
    assert pairs[0].one("span", "ids").text.count("01a21079") == 2


def test_the_reasons_for_withheld_pairs_are_explained(report, read):
    page = read(to_html(report())).text
    assert "busy: the candidate's concurrency was used up" in page
    assert "budget: the day's budget was spent" in page
    assert "target_down" not in page, "only the reasons that occurred"


def test_numbers_and_withheld_pairs_are_in_tables(report, read):
    tables = {t.one("caption").text: t.text for t in read(to_html(report())).all("table")}
    assert "helpfulness" in tables["Each metric in both arms"]
    assert "openai/gpt-x" in tables["The arms"]
    assert "not offered: busy31" in tables["Withheld pairs"]
    assert "key batch" in tables["By stratum"]
    assert "0.0004" in tables["Distances to the served answer"]
    assert "qwen" in tables["Strength by arm"]


def test_the_page_has_the_ramp_with_its_overrides(report, read):
    forced = RampChangeShown(0.0, "overridden", 0.1, "mia", "<b>we know</b>", "p")
    back = RampChangeShown(9.0, "rolled_back", 0.0, "controller", "errors", "p")
    page = read(to_html(report(ramp=RampHistory("rolled_back", 0, (0.1, 1.0), 0.0, False, (forced, back), (forced,)))))
    assert "The ramp" in [h.text for h in page.all("h2")]
    assert "by mia, to 10.0\u202f% of the units: <b>we know</b>" in page.one("main").text
    assert "rolled back" in page.one("main").text


@pytest.mark.parametrize(
    ("state", "step", "badge", "tone"),
    [
        ("shadow", 0, "✓ Ship", "good"),
        ("ramp", 1, "? Step 1 of 2", "open"),
        ("promoted", 2, "✓ Promoted", "good"),
        ("rolled_back", 0, "✕ Rolled back", "bad"),
        ("stopped", 0, "? Ramp stopped", "open"),
    ],
)
def test_the_badge_and_title_show_the_ramp_once_it_serves(report, read, state, step, badge, tone):
    change = RampChangeShown(9.0, state, 0.0, "controller", "errors at step 1", "p")
    ramp = RampHistory(state, step, (0.1, 1.0), 0.1, False, (change,), ())
    text = to_html(report("ship", ramp=ramp))
    page = read(text)
    assert f'class="badge {tone}">{badge}' in text
    assert f": {badge[2:].lower()}</title>" in text
    ended = state in ("rolled_back", "stopped")
    assert ("errors at step 1" in page.one("h1").text) == ended


def test_back_ticks_are_code_on_pages() -> None:
    """Texts are escaped all the same, in back-ticks or not."""
    assert prose("set `unit: user` <b>") == "set <code>unit: user</code> &lt;b&gt;"
    assert prose("`<script>`") == "<code>&lt;script&gt;</code>"
    assert prose("a ` alone") == "a ` alone"
    assert prose("`\x1b[31m`", shown=lambda text: text.replace("\x1b", "ESC")) == "<code>ESC[31m</code>"
