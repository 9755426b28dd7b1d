"""Receivers of messages over the network: each makes one attempt, and describes an error without a secret."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Protocol
from urllib.parse import urlsplit

from gateway.config.notify import NotifyTarget
from gateway.config.webhook import signing_key
from gateway.core.notice import Notice
from gateway.features.notices.messages import mail_of, slack_body, teams_body, webhook_body
from gateway.scoring.http_client import DeadlinePassed, HttpConnections, Unreachable

GONE = "HTTP 410"
"""The failure after which nothing is tried again."""
_MOST_REPLY_BYTES = 1 << 16


class NoticeReceiver(Protocol):
    """A target of `notify`."""

    async def send(self, id: str, notices: Sequence[Notice], at: float) -> str | None:
        """Sends notices as one message. id: the same at each attempt. at: Unix seconds. Returns None if it was
        accepted, else what went wrong."""


def signature(key: bytes, id: str, at: int, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of `ID.TIMESTAMP.BODY` in base64. Source: Standard Webhooks 1.0."""
    signed = b".".join((id.encode(), str(at).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signed_headers(key: bytes, id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks."""
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": signature(key, id, at, body)}


class JsonPoster:
    """POST requests with JSON to one URL."""

    def __init__(self, connections: HttpConnections, url: str, timeout_s: float, *, private: bool) -> None:
        """private: whether the host may be a private address that the URL does not name."""
        self._connections, self._url, self._timeout_s, self._private = connections, url, timeout_s, private

    async def post(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        """Returns None for any 2xx, else what went wrong. Redirects are not followed."""
        sent = {"content-type": "application/json", "user-agent": "assay-gateway", **headers}
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        try:
            async with asyncio.timeout(self._timeout_s):
                address = await public_address(host, parts.port or 443, private=self._private)
            reply = await self._connections.send(
                "POST", self._url, body, deadline_s=self._timeout_s, headers=sent, most_bytes=_MOST_REPLY_BYTES,
                address=address,
            )  # fmt: skip
        except (TimeoutError, DeadlinePassed):
            return f"{host} did not answer within {self._timeout_s:g} s"
        except Unreachable as error:
            return f"{host}: {_without_url(error)}"[:500]
        return None if 200 <= reply.status < 300 else f"HTTP {reply.status}"


def _without_url(error: Unreachable) -> str:
    """The cause alone: the URL of an incoming webhook is a secret."""
    return (
        str(error)
        if error.__cause__ is None and isinstance(error, PrivateAddress)
        else (f"cannot be reached: {error.__cause__ or 'its answer is too large'}")
    )


class PrivateAddress(Unreachable):
    """A host name leads to a private address."""


async def public_address(host: str, port: int, *, private: bool) -> str | None:
    """An address of the host that is public; None means that the name itself may be used, because private addresses are
    allowed or the setting names one. The connection goes to the address that was checked. Raises PrivateAddress,
    Unreachable.
    """
    if private or host == "localhost" or _is_address(host):
        return None
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"{host} has no address") from error
    addresses = [str(each[4][0]) for each in found]
    closed = [address for address in addresses if not _is_public(address)]
    if closed:
        raise PrivateAddress(f"it is the private address {closed[0]}; `private: true` of the target allows it")
    return addresses[0]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_public(address: str) -> bool:
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_global and not found.is_multicast


class ChatReceiver:
    """A webhook of Slack or Teams, or of a program that takes the same form."""

    def __init__(self, target: NotifyTarget, connections: HttpConnections, console_url: str) -> None:
        self._post = JsonPoster(connections, target.url or "", target.timeout_s, private=target.private)
        self._body = slack_body if target.kind == "slack" else teams_body
        self._console_url = console_url

    async def send(self, id: str, notices: Sequence[Notice], at: float) -> str | None:
        return await self._post.post(self._body(notices, self._console_url), {})


class SignedReceiver:
    """A Standard Webhook."""

    def __init__(self, target: NotifyTarget, connections: HttpConnections, console_url: str) -> None:
        self._post = JsonPoster(connections, target.url or "", target.timeout_s, private=target.private)
        self._key, self._console_url = signing_key(target.secret or ""), console_url

    async def send(self, id: str, notices: Sequence[Notice], at: float) -> str | None:
        body = webhook_body(notices, self._console_url)
        return await self._post.post(body, signed_headers(self._key, id, int(at), body))


class MailReceiver:
    """Mail by SMTP."""

    def __init__(self, target: NotifyTarget, console_url: str) -> None:
        self._target, self._console_url = target, console_url

    async def send(self, id: str, notices: Sequence[Notice], at: float) -> str | None:
        import aiosmtplib  # an extra

        t, (host, port) = self._target, self._target.server
        try:
            async with asyncio.timeout(t.timeout_s):
                await public_address(host, port, private=t.private)
                await aiosmtplib.send(
                    mail_of(id, notices, self._console_url, t, at), hostname=host, port=port, username=t.username,
                    password=t.password, use_tls=t.tls == "tls", start_tls=t.tls == "starttls", timeout=t.timeout_s,
                )  # fmt: skip
        except TimeoutError:
            return f"{host} did not answer within {t.timeout_s:g} s"
        except PrivateAddress as error:
            return f"{host}: {error}"
        except (aiosmtplib.SMTPException, OSError, Unreachable) as error:
            return f"{host}: {type(error).__name__}: {error}".replace(t.password or "\0", "…")[:500]
        return None


def receiver_of(target: NotifyTarget, connections: HttpConnections, console_url: str) -> NoticeReceiver:
    if target.kind == "mail":
        return MailReceiver(target, console_url)
    if target.kind == "webhook":
        return SignedReceiver(target, connections, console_url)
    return ChatReceiver(target, connections, console_url)
