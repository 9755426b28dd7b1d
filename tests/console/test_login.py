"""Signing in: by token, by the link of `gateway up`, and how it ends."""

from __future__ import annotations

import asyncio
from hashlib import sha256

from gateway.config.admin import AdminConfig


async def test_a_wrong_token_opens_nothing_and_its_sender_is_stopped(pages):
    client = await pages.client()
    for _ in range(10):
        answer = await client.post("/console/login", data={"token": "wrong"})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "not an admin token" in answer.text
    answer = await client.post("/console/login", data={"token": "wrong"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    right = await client.post("/console/login", data={"token": "token-of-owner"})
    assert right.status_code == 303, "the right token is not locked out by wrong ones from its address"


async def test_a_login_form_of_another_site_is_refused(pages):
    client = await pages.client()
    answer = await client.post(
        "/console/login", data={"token": "token-of-owner"}, headers={"origin": "https://e.example"}
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def use(client, link="a-login-link"):
    """The button of the page that the link shows."""
    return client.post("/console/login", data={"link": link})


async def test_the_login_link_works_once(pages):
    first, second = await pages.client(), await pages.client()
    (pages.data / "login").write_text("1764150000 a-login-link")
    assert (await use(second, "another")).status_code == 401
    assert (pages.data / "login").exists()
    answer = await use(first)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    assert ">ada</bdi>, owner" in await pages.get(first, "/console")
    assert not (pages.data / "login").exists(), "the next start prints a new one"
    again = await use(second)
    assert again.status_code == 401
    assert "used before" in again.text
    assert (await use(second, "another")).status_code == 401


async def test_a_preview_of_the_login_link_does_not_use_it_up(pages):
    """Chat programs and mail filters fetch what they are sent."""
    preview, person = await pages.client(), await pages.client()
    for n in range(12):
        assert (await preview.head("/console/login?link=a-login-link")).status_code == 200
        shown = await preview.get(f"/console/login?link=a-login-link&n={n}")
        assert "set-cookie" not in shown.headers
    assert '<input type="hidden" name="link" value="a-login-link">' in shown.text
    assert (await use(person)).status_code == 303


async def test_links_that_a_page_opens_count_as_no_guess(pages):
    """Any page can make a reader's browser fetch a login link, or send its form; neither guesses anything."""
    client = await pages.client()
    for n in range(15):
        assert (await client.get(f"/console/login?link=guess{n}")).status_code == 200
        foreign = {"origin": "https://e.example", "sec-fetch-site": "cross-site"}
        answer = await client.post("/console/login", data={"link": f"guess{n}"}, headers=foreign)
        assert answer.status_code == 403
    assert (await use(client, "another")).status_code == 401, "nothing was counted"
    assert (await use(client)).status_code == 303


async def test_the_button_of_another_site_is_refused(pages):
    client = await pages.client()
    headers = {"origin": "https://e.example"}
    answer = await client.post("/console/login", data={"link": "a-login-link"}, headers=headers)
    assert answer.status_code == 403
    assert (await use(client)).status_code == 303


async def test_the_login_link_expires(pages):
    pages.clock[0] = 601
    client = await pages.client()
    assert (await use(client)).status_code == 401
    assert (await client.get("/console")).status_code == 303


async def test_guessed_links_are_bounded_like_wrong_tokens(pages):
    client = await pages.client()
    for n in range(10):
        assert (await use(client, f"guess{n}")).status_code == 401
    assert (await use(client)).status_code == 429


async def test_an_abandoned_login_is_not_an_internal_error(pages, caplog):
    host, port = pages.url.removeprefix("http://").split(":")
    for _ in range(3):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /console/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        writer.write(f"{head}content-length: 100\r\nexpect: 100-continue\r\n\r\ntoken=".encode())
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n", "it is being read"
        writer.transport.abort()
    client = await pages.client()
    assert (await client.get("/console/login")).status_code == 200
    assert [r for r in caplog.records if r.exc_info] == []


async def test_a_session_ends_with_its_token_and_follows_its_role(pages):
    client = await pages.login("operator")
    assert (await client.get("/console")).status_code == 200
    config = pages.config[-1]
    tokens = [t.model_copy(update={"role": "viewer"}) if t.name == "otto" else t for t in config.admin.tokens]
    pages.config.append(config.model_copy(update={"admin": AdminConfig(tokens=tuple(tokens))}))
    assert ">otto</bdi>, viewer" in await pages.get(client, "/console")
    left = [t for t in tokens if t.name != "otto"]
    pages.config.append(config.model_copy(update={"admin": AdminConfig(tokens=tuple(left))}))
    assert (await client.get("/console")).status_code == 303


async def test_a_session_expires(pages):
    client = await pages.login()
    pages.clock[0] = 12 * 3600 + 1
    assert (await client.get("/console")).status_code == 303


async def test_the_store_has_digests_only(pages):
    client = await pages.login()
    cookie = client.cookies["assay_console"]
    rows = await pages.store.read(lambda c: c.exec_driver_sql("SELECT * FROM console_sessions").all())
    assert cookie not in repr(rows)
    assert sha256(cookie.encode()).hexdigest() in repr(rows)


async def test_the_cookie_of_a_page_does_not_open_the_admin_api(pages):
    client = await pages.login()
    answer = await client.get("/admin/v1/keys", headers={"cookie": f"assay_console={client.cookies['assay_console']}"})
    assert answer.status_code == 401
