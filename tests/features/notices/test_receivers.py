"""Each kind of receiver over real sockets: its form, its failures, and never a private address by a public name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.config.notify import NotifyTarget
from gateway.core.notice import Notice
from gateway.features.notices.receivers import PrivateAddress, public_address, receiver_of
from gateway.scoring.http_client import HttpConnections, Unreachable

AT = 1_790_000_000.0
NOTICE = Notice(
    "budget:team:a:usd_per_month:2026-11:80%", "budget", "team <a> has used 80% | of it", "$400 of $500 & more.", AT,
    "/console/keys", "warning", {"spent": 400.0},
)  # fmt: skip
CONSOLE = "https://console.example.org/"
MANY = [Notice(f"n{i}", "store", f"title {i}", f"text {i}", AT + i, "/console", "info") for i in range(25)]


@pytest.fixture
async def connections() -> AsyncIterator[HttpConnections]:
    """The consumer's connections."""
    async with HttpConnections() as opened:
        yield opened


def target(kind: str, url: str = "", **fields: Any) -> NotifyTarget:
    return NotifyTarget(**{"kind": kind, **({"url": url} if url else {}), **fields})


async def test_slack_gets_text_with_a_link_and_its_signs_escaped(connections: Any, receiver: Any) -> None:
    to = receiver_of(target("slack", receiver.url), connections, CONSOLE)
    assert await to.send("1", [NOTICE], AT) is None
    text = receiver.got[0].body["text"]
    assert "<https://console.example.org/console/keys|team &lt;a&gt; has used 80% ∣ of it>" in text
    assert "$400 of $500 &amp; more." in text
    assert await to.send("2", MANY, AT) is None
    assert receiver.got[1].body["text"].endswith("and 5 more")


async def test_teams_gets_an_adaptive_card(connections: Any, receiver: Any) -> None:
    to = receiver_of(target("teams", receiver.url), connections, CONSOLE)
    assert await to.send("1", [NOTICE], AT) is None
    body = receiver.got[0].body
    (attachment,) = body["attachments"]
    assert (body["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    card = attachment["content"]
    assert (card["type"], card["body"][1]["text"]) == ("AdaptiveCard", NOTICE.text)
    assert card["actions"] == [
        {"type": "Action.OpenUrl", "title": "Open the console", "url": "https://console.example.org/console/keys"}
    ]


async def test_a_webhook_is_signed_and_has_the_figures(connections: Any, receiver: Any, webhook_secret: str) -> None:
    to = receiver_of(target("webhook", receiver.url, secret=webhook_secret), connections, "")
    assert await to.send("an-id", [NOTICE], AT) is None
    got = receiver.got[0]
    assert (got.genuine(), got.id, got.body["type"]) == (True, "an-id", "notice.budget")
    assert (got.body["data"]["data"], got.body["data"]["url"]) == ({"spent": 400.0}, None)
    assert await to.send("many", MANY, AT) is None
    assert (receiver.got[1].body["type"], len(receiver.got[1].body["data"]["notices"])) == ("notices", 25)


async def test_mail_has_a_subject_of_one_line_and_a_lasting_id(connections: Any, mail_server: Any) -> None:
    mail = {
        "smtp": f"127.0.0.1:{mail_server.port}",
        "tls": "none",
        "sender": "gw@example.org",
        "to": ["a@x.org", "b@x.org"],
    }
    to = receiver_of(target("mail", **mail, username="u", password="hunter2"), connections, CONSOLE)
    bent = Notice("x:1", "config", "two\nlines\r\nBcc: everybody@example.org", "why\n", AT, "/console", "info")
    assert await to.send("x:1", [bent], AT) is None
    (got,) = mail_server.got
    assert got["subject"] == "[gateway] two lines Bcc: everybody@example.org"
    assert (got["to"], got["bcc"], got["message-id"]) == ("a@x.org, b@x.org", None, "<x-1@example.org>")
    assert "https://console.example.org/console" in got.get_content()
    assert mail_server.logins == ["\0u\0hunter2"]
    mail_server.refuses = "554 no thanks"
    error = await to.send("x:2", [bent], AT)
    assert error is not None
    assert "554" in error
    assert "hunter2" not in error


async def test_a_silent_mail_server_is_a_failure_in_time(connections: Any, mail_server: Any) -> None:
    mail_server.silent = True
    mail = {"smtp": f"127.0.0.1:{mail_server.port}", "tls": "none", "sender": "gw@example.org", "to": ["a@x.org"]}
    error = await receiver_of(target("mail", **mail, timeout_s=0.2), connections, "").send("1", [NOTICE], AT)
    assert error is not None


@pytest.mark.parametrize("status", [301, 307, 404, 429, 503])
async def test_anything_but_2xx_is_a_failure_and_redirects_stay(connections: Any, receiver: Any, status: int) -> None:
    receiver.answers = [status]
    to = receiver_of(target("slack", receiver.url), connections, "")
    assert await to.send("1", [NOTICE], AT) == f"HTTP {status}"
    assert len(receiver.got) == 1


async def test_failures_do_not_show_the_url_which_is_a_secret(connections: Any) -> None:
    to = receiver_of(target("slack", "http://127.0.0.1:9/services/T0/B0/sEcReT"), connections, "")
    error = await to.send("1", [NOTICE], AT)
    assert error is not None
    assert error.startswith("127.0.0.1: cannot be reached")
    assert "sEcReT" not in error + repr(target("slack", "http://h/sEcReT"))


async def test_a_name_that_leads_to_a_private_address_is_refused(connections: Any, receiver: Any) -> None:
    """`127.1` is a host name to us, and the loopback address to the resolver."""
    url = receiver.url.replace("127.0.0.1", "127.1")
    refused = await receiver_of(target("slack", url), connections, "").send("1", [NOTICE], AT)
    assert refused == "127.1: it is the private address 127.0.0.1; `private: true` of the target allows it"
    assert receiver.got == []
    mail = {"smtp": "127.1:25", "tls": "none", "sender": "gw@example.org", "to": ["a@x.org"]}
    assert "private address" in str(await receiver_of(target("mail", **mail), connections, "").send("1", [NOTICE], AT))
    assert await receiver_of(target("slack", url, private=True), connections, "").send("1", [NOTICE], AT) is None


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "::1", "localhost", "192.0.2.1"])
async def test_an_address_that_the_setting_names_may_be_private(host: str) -> None:
    assert await public_address(host, 80, private=False) is None


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0"])
async def test_other_spellings_of_private_addresses_are_names(host: str) -> None:
    with pytest.raises((PrivateAddress, Unreachable)):
        await public_address(host, 80, private=False)


async def test_the_connection_goes_to_the_address_that_was_checked(connections: Any, receiver: Any) -> None:
    """The name is not looked up a second time, and stays the host of the request."""
    port = receiver.url.split(":")[2].split("/")[0]
    url = f"http://receiver.invalid:{port}/hook"
    reply = await connections.send("POST", url, b"{}", deadline_s=30, address="127.0.0.1")
    assert (reply.status, receiver.got[0].host) == (204, f"receiver.invalid:{port}")
