"""What a labeller sees says nothing of who answered, and no control character passes."""

from __future__ import annotations

from rich.console import Console

from gateway.evals.annotation.blind import NOTHING, BlindItem, of_exchange, of_pair, page, question, said

REQUEST = b'{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Why?"}]}'


def found(id="e1", text="Because.", **fields):
    plain = {"id": id, "request": REQUEST, "text": text, "refusal": "", "tool_calls": "[]", "model": "gpt-x",
             "upstream": "openai", "arm": "candidate"}  # fmt: skip
    return {**plain, **fields}


def shown(blind, criterion=None):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(page(blind, criterion))
        return console.export_text(styles=True)


def test_question_answer_and_criterion_are_shown_and_nothing_else():
    text = shown(of_exchange(found()), "It explains.")
    assert [w for w in ("Why?", "Because.", "criterion: It explains.") if w not in text] == []
    assert [w for w in ("gpt-x", "openai", "candidate", "e1") if w in text] == []


def test_a_pair_stands_in_an_order_that_its_id_decides():
    blinds = [of_pair("s", found("a", "control"), found(f"b{i}", "candidate")) for i in range(400)]
    assert 150 < sum(b.turned for b in blinds) < 250
    for blind in blinds:
        assert blind.answers == (("candidate", "control") if blind.turned else ("control", "candidate"))
        assert of_pair("s", found("a", "control"), found(blind.id, "candidate")) == blind


def test_escapes_markup_and_marks_of_direction_do_nothing():
    text = shown(
        BlindItem("e", (("user", "[bold]x[/bold] \x1b]0;owned\x07"),), ("a\x1b[2Jb\u202ec\x9b31m",)), "\x1b[8m"
    )
    assert "[bold]x[/bold]" in text
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert "\x1b[8m" not in text
    assert [c for c in ("\x07", "\u202e", "\x9b") if c in text] == []


def test_calls_and_refusals_are_part_of_what_was_said():
    calls = '[{"id": "1", "name": "f", "arguments": "{}"}]'
    assert said(found(text="", refusal="No.", tool_calls=calls)) == "No.\n[calls f with {}]"
    assert said(found(text="", tool_calls=None)) == NOTHING


def test_the_question_is_one_text():
    assert question(of_exchange(found())) == "[system]\nS\n\n[user]\nWhy?"
