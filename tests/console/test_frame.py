"""The parts of every page: a session, a role, headers, forms that no other site can send, and texts that cannot act."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.console.frame import environment, local_path, static_files

HTMX_SHA256 = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"  # htmx.org 4.0.1, dist/htmx.min.js
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b[31mred \u202eevil\u2066 {{7*7}}"


async def test_a_visitor_without_a_session_goes_through_the_login(pages):
    client = await pages.client()
    answer = await client.get("/console/calls?alias=chat")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/console/login?next=%2Fconsole%2Fcalls%3Falias%3Dchat",
    )
    form = await client.get(answer.headers["location"])
    assert 'name="next" value="/console/calls?alias=chat"' in form.text
    done = await client.post("/console/login", data={"token": "token-of-owner", "next": "/console/calls?alias=chat"})
    assert (done.status_code, done.headers["location"]) == (303, "/console/calls?alias=chat")
    assert (await client.get("/console/calls?alias=chat")).status_code == 200


async def test_every_answer_has_a_policy_without_inline_code(pages):
    client = await pages.login()
    for path in ("/console", "/console/calls", "/console/playground", "/console/none", "/console/static/console.css"):
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy, path
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert answer.headers["cache-control"] == "no-store"
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", answer.text), path
            assert '<a class="skip" href="#main">' in answer.text
            assert len(re.findall("<h1[ >]", answer.text)) == 1


async def test_the_session_cookie_is_out_of_reach(pages):
    client = await pages.client()
    answer = await client.post("/console/login", data={"token": "token-of-owner"})
    parts = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/console"} <= parts
    assert "secure" not in parts, "on this machine, over plain HTTP"
    other = await pages.client(host="console.example")
    answer = await other.post("/console/login", data={"token": "token-of-owner"})
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_each_role_sees_its_pages(pages):
    shown = {}
    for role in ("viewer", "labeller", "operator", "owner"):
        client = await pages.login(role)
        html = await pages.get(client, "/console")
        navigation = html[html.index("<nav") : html.index("</nav>")]
        shown[role] = re.findall(r">([A-Z][^<]+)</a>", navigation)
        status = (await client.get("/console/playground")).status_code
        assert status == (200 if role == "owner" else 403), role
    assert "Playground" not in shown["viewer"]
    assert "Playground" not in shown["operator"], "an operator may not read prompts and answers by the role alone"
    assert {"Today", "Calls", "Playground"} <= set(shown["owner"])
    assert {"Today", "Calls"} <= set(shown["viewer"])
    assert re.findall(r'<span id="group-\d">([^<]+)<', navigation) == ["Look", "Decide", "People and money"]


async def test_a_missing_page_is_reported_as_a_page(pages):
    client = await pages.login()
    answer = await client.get("/console/nothing")
    assert answer.status_code == 404
    assert "there is no such page" in answer.text
    assert (await client.get("/elsewhere")).headers["content-type"] == "application/json"


async def test_an_error_that_repeats_its_input_shows_it_as_text(pages):
    client = await pages.login()
    answer = await client.get("/console/calls", params={"where": HOSTILE})
    assert answer.status_code == 400
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    assert "\x1b" not in answer.text
    assert "\u202e" not in answer.text
    assert "⟨U+202E⟩" in answer.text


async def test_a_notice_is_shown_once(pages, make_exchange):
    client, one = await pages.login(), make_exchange()
    await pages.add(one)
    done = await pages.send(
        client, f"/console/calls/{one.id}", f"/console/calls/{one.id}/label",
        {"scorer": "valid_json", "verdict": "good"},
    )  # fmt: skip
    assert done.status_code == 303
    assert "Labelled good for valid_json" in await pages.get(client, f"/console/calls/{one.id}")
    assert "Labelled good for valid_json" not in await pages.get(client, f"/console/calls/{one.id}")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/console/calls?x=1", "/console/calls?x=1"),
        ("/console", "/console"),
        ("https://evil.example", "/console"),
        ("//evil.example", "/console"),
        ("/console\\..//evil", "/console"),
        ("/consoleX", "/console"),
        ("/admin", "/console"),
        ("/console/login?link=x", "/console"),
        ("/console/\r\nx", "/console"),
    ],
)
def test_a_login_leads_nowhere_but_into_the_console(given, path):
    assert local_path(given) == path


def test_htmx_is_the_file_that_was_checked():
    assert sha256(static_files()["htmx.min.js"]).hexdigest() == HTMX_SHA256
    assert b"Permission to use, copy, modify" in static_files()["htmx.LICENSE.txt"]


async def test_static_files_are_kept_by_browsers_under_their_own_version(pages):
    client = await pages.client()
    html = (await client.get("/console/login")).text
    path = re.search(r'href="(/console/static/console\.css\?v=[0-9a-f]+)"', html)
    assert path is not None
    answer = await client.get(path[1])
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/css")
    assert (await client.get("/console/static/console.css?v=other")).headers["cache-control"] == "no-store"
    assert (await client.get("/console/static/frame.py")).status_code == 404
    assert (await client.get("/console/static/..%2fframe.py")).status_code in (303, 404)


def test_a_table_has_a_named_region_and_columns_of_numbers() -> None:
    source = '{% import "macros.html.jinja" as m %}{% call m.table(label, ["Key", "#Calls"]) %}{{ row }}{% endcall %}'
    shown = environment().from_string(source).render(label='"a" & b', row="<1>")
    assert '<div class="table" role="region" aria-label="&#34;a&#34; &amp; b" tabindex="0"><table>' in shown
    assert '<tr><th scope="col">Key</th><th scope="col" class="number">Calls</th></tr>' in shown
    assert "<tbody>\n&lt;1&gt;\n</tbody></table></div>" in shown


def _with_grafana(pages):
    config = pages.config[-1]
    admin = config.admin.model_copy(update={"grafana_url": "https://grafana.example.com/"})
    pages.config.append(config.model_copy(update={"admin": admin}))


async def test_pages_link_to_grafana_where_the_config_names_it(pages):
    client = await pages.login("viewer")
    link = '<a href="https://grafana.example.com/d/assay-overview">Grafana</a>'
    assert link not in await pages.get(client, "/console")
    _with_grafana(pages)
    assert link in await pages.get(client, "/console")


async def test_panels_link_to_pages_that_exist(pages):
    client = await pages.login()
    links = set()
    for path in (Path(__file__).parent.parent.parent / "grafana" / "dashboards").glob("*.json"):
        links |= set(re.findall(r'"\$\{console\}(/console[^"$]*)', path.read_text("utf-8")))
    assert {"/console", "/console/failures", "/console/calls?alias="} <= links
    for link in links - {"/console/experiments/of/"}:
        assert (await client.get(link)).status_code == 200, link
