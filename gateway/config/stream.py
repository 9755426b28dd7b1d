"""The `stream:` section of gateway.yaml: where the stream server is, how one enters, and what the stream may hold."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.config.types import Name, Positive, Section

_KINDS = r"^(unix|rediss?(\+(sentinel|cluster))?)://"
_PLACE = r"^[^\s/:@]+(:\d+)?$|^\[[0-9a-fA-F:]+\](:\d+)?$"
Place = Annotated[str, Field(pattern=_PLACE)]


class StreamConfig(Section):
    """url: redis://, rediss:// (TLS) or unix://, redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST; None:
    the embedded server. sentinels, service: say the same as the second. cluster: the url is of a cluster's nodes.

    shards: how many streams a cluster holds; never fewer than before while any of them has entries. username,
    password: of an ACL user; sentinel_username, sentinel_password: of the sentinels themselves. tls: for sentinels,
    whose url says it otherwise. ca_file, cert_file, key_file, check_hostname: for TLS. name: of the stream's key.

    buffer_mb: what may wait in a gateway process. max_mb, max_age_h: what one stream may hold; what is beyond goes,
    oldest first, and is counted where it had not been read. claim_idle_s: what a consumer has not settled or said to be
    at work on for so long is another's.
    """

    url: Annotated[str, Field(pattern=_KINDS)] | None = None
    sentinels: tuple[Place, ...] = ()
    service: Annotated[str, Field(pattern=r"^[^\s/@]+$")] | None = None
    cluster: bool = False
    shards: Annotated[int, Field(ge=1, le=1024)] = 16
    tls: bool = False
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    check_hostname: bool = True
    name: Name = "gateway"
    buffer_mb: Positive = 32.0
    max_mb: Positive = 1024.0
    max_age_h: Positive | None = None
    claim_idle_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.url and self.sentinels:
            raise ValueError("url and sentinels both say where the server is; leave one out")
        if bool(self.sentinels) != bool(self.service) and not self.url:
            raise ValueError("sentinels and service go together: the sentinels are asked where that service is")
        if self.cluster and not (self.url or "").startswith(("redis://", "rediss://", "redis+cl", "rediss+cl")):
            raise ValueError("cluster: true needs the url of its nodes: redis://HOST:PORT,HOST:PORT")
        if (self.key_file or self.cert_file) and not (self.key_file and self.cert_file):
            raise ValueError("cert_file and key_file go together")
        if (self.tls or self.ca_file or self.cert_file) and self.address and not self.address.startswith("rediss"):
            raise ValueError("TLS is spoken over rediss://, not over this url; with sentinels say tls: true")
        return self

    @property
    def address(self) -> str | None:
        """The whole URL; None: the embedded server."""
        if self.sentinels:
            return f"{'rediss' if self.tls else 'redis'}+sentinel://{','.join(self.sentinels)}/{self.service}"
        if self.cluster and self.url and "+cluster" not in self.url:
            return self.url.replace("://", "+cluster://", 1)
        return self.url
