"""The section `notify` of gateway.yaml: receivers of notices about budgets, verdicts, ramps, guards, retirements and
failures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from gateway.config.types import Name, NonEmpty, Section, Url
from gateway.config.webhook import WebhookSecret
from gateway.core.notice import Subject

NotifyKind = Literal["slack", "teams", "mail", "webhook"]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
Address = Annotated[str, Field(pattern=r"^[^\s@<>,;]+@[^\s@<>,;]+$")]
_PORTS: Mapping[str, int] = MappingProxyType({"starttls": 587, "tls": 465, "none": 25})


def _server(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if separator and (not host or not port.isdecimal() or not 0 < int(port) < 65536):
        raise ValueError("expected HOST or HOST:PORT, such as smtp.example.org:587")
    return value


class NotifyTarget(Section):
    """A receiver of notices."""

    kind: NotifyKind
    """`slack`: an incoming webhook of Slack, or of a program that takes its form. `teams`: a workflow of Microsoft
    Teams that posts what a webhook request brings. `mail`: by SMTP (extra `mail`). `webhook`: JSON, signed as
    Standard Webhooks says."""
    url: Url | None = Field(None, repr=False)
    """URL that receives the POST requests, for `slack`, `teams` and `webhook`."""
    secret: WebhookSecret | None = Field(None, repr=False)
    """Secret that signs each request of a `webhook`: `whsec_` and 24 to 64 random bytes in base64."""
    smtp: Annotated[str, Field(min_length=1), AfterValidator(_server)] | None = None
    """Mail server of `mail`, as HOST or HOST:PORT. Default port: 587 for `starttls`, 465 for `tls`, 25 for `none`."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """Encryption of the connection of `mail`; the server's certificate is verified."""
    username: NonEmpty | None = None
    """User name of `mail` at the server, together with `password`. Default: none."""
    password: NonEmpty | None = Field(None, repr=False)
    """Password of that user name."""
    sender: Address | None = None
    """Address that mails come from."""
    to: Annotated[tuple[Address, ...], Field(max_length=50)] = ()
    """Addresses that mails go to."""
    on: Annotated[tuple[Subject, ...], Field(min_length=1)] = SUBJECTS
    """Subjects of the notices that it gets: `budget`, `verdict`, `ramp`, `retirement`, `config`, `store`, `guard`,
    `upstream`, `consumer`, `feature` and `model`. Default: all."""
    per_hour: Annotated[int, Field(ge=1, le=1000)] = 20
    """Warnings in 60 minutes; what exceeds them is gathered into one message. Outages and what is critical are sent at
    once, and information as one digest an hour."""
    private: bool = False
    """Allow a host name that leads to a private address. An address in the URL itself, and `localhost`, may always be
    private."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """Seconds in which it answers; later counts as a failure."""

    @property
    def server(self) -> tuple[str, int]:
        """Host and port of the mail server."""
        host, separator, port = (self.smtp or "").rpartition(":")
        return (host, int(port)) if separator else (port, _PORTS[self.tls])

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        needs, may = _OF_KIND[self.kind]
        for name in sorted(self.model_fields_set & _SPECIAL - {*needs, *may}):
            raise ValueError(f"`{name}` has no meaning for kind {self.kind}")
        for name in needs:
            if not getattr(self, name):
                raise ValueError(f"{name}: missing; kind {self.kind} needs it")
        if (self.username is None) != (self.password is None):
            raise ValueError("username, password belong together; only one is given")
        return self


_OF_KIND: Mapping[NotifyKind, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "slack": (("url",), ()),
        "teams": (("url",), ()),
        "webhook": (("url", "secret"), ()),
        "mail": (("smtp", "sender", "to"), ("tls", "username", "password")),
    }
)
"""Fields that a kind needs, and those that it may have."""
_SPECIAL = frozenset({"url", "secret", "smtp", "tls", "username", "password", "sender", "to"})


class NotifyConfig(Section):
    """Notices for people, sent by `gateway evaluate`."""

    console_url: Url | None = None
    """URL at which people reach the console, for links. Default: `admin.oidc.url`; without either, no links."""
    targets: Annotated[dict[Name, NotifyTarget], Field(min_length=1)]
    """Receivers, by name."""
