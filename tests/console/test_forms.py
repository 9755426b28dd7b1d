"""The forms of the console: no other site or session can send one, and bodies have limits."""

from __future__ import annotations


async def test_a_form_of_another_site_or_session_is_refused(pages, csrf_of):
    owner, other = await pages.login(), await pages.login()
    page = await owner.get("/console")
    assert (await owner.post("/console/logout", data={"x": "y"})).status_code == 403
    foreign = csrf_of((await other.get("/console")).text)
    assert (await owner.post("/console/logout", data={"csrf": foreign})).status_code == 403
    own = {"csrf": csrf_of(page.text)}
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert (await owner.post("/console/logout", data=own, headers=headers)).status_code == 403, headers
    assert (await owner.get("/console")).status_code == 200, "still signed in"
    done = await owner.post("/console/logout", data=own, headers={"origin": pages.url, "sec-fetch-site": "same-origin"})
    assert (done.status_code, done.headers["location"]) == (303, "/console/login")
    assert (await owner.get("/console")).status_code == 303


async def test_a_body_that_is_not_a_form_or_too_large_is_refused(pages):
    client = await pages.login()
    assert (await client.post("/console/logout", json={"csrf": "x"})).status_code == 400
    assert (await client.post("/console/logout", data={"x": "y" * 1_100_000})).status_code == 413
