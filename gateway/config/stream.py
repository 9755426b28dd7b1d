"""The section `stream` of gateway.yaml: how to connect to the stream server, and what the streams may hold."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.config.types import Name, Positive, Section

_SCHEMES = r"^(unix|rediss?(\+(sentinel|cluster))?)://"
_HOST_PORT = r"^[^\s/:@]+(:\d+)?$|^\[[0-9a-fA-F:]+\](:\d+)?$"
HostPort = Annotated[str, Field(pattern=_HOST_PORT)]


class StreamConfig(Section):
    """The stream server between gateway and consumer: Redis or a compatible server. Default: an embedded one."""

    url: Annotated[str, Field(pattern=_SCHEMES)] | None = None
    """`redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://HOST,HOST/SERVICE` or `redis+cluster://HOST,HOST`."""
    sentinels: tuple[HostPort, ...] = ()
    """HOST:PORT of each sentinel, instead of a `redis+sentinel://` URL."""
    service: Annotated[str, Field(pattern=r"^[^\s/@]+$")] | None = None
    """The name of the master that the sentinels watch."""
    cluster: bool = False
    """`url` names nodes of a Redis Cluster."""
    shards: Annotated[int, Field(ge=1, le=1024)] = 16
    """Streams in a cluster. Never lower it while a stream still has entries."""
    tls: bool = False
    """Use TLS with `sentinels`. With a URL, the scheme decides."""
    username: str | None = None
    """ACL user of the stream server."""
    password: str | None = None
    """Password of the stream server."""
    sentinel_username: str | None = None
    """ACL user of the sentinels themselves."""
    sentinel_password: str | None = None
    """Password of the sentinels themselves."""
    ca_file: str | None = None
    """PEM file of the CA that signed the server's certificate. Default: the system's CAs."""
    cert_file: str | None = None
    """PEM file of the client certificate."""
    key_file: str | None = None
    """PEM file of the client certificate's key."""
    check_hostname: bool = True
    """Check that the server's certificate is for this host."""
    name: Name = "gateway"
    """Prefix of all keys on the server."""
    buffer_mb: Positive = 32.0
    """Memory for records that wait to be sent, per gateway process. When full, the newest record is dropped."""
    max_mb: Positive = 1024.0
    """Size of one stream. Beyond it the oldest entries are deleted; unread ones are counted as lost."""
    max_age_h: Positive | None = None
    """Age in hours beyond which entries are deleted. Default: unlimited."""
    claim_idle_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    """Seconds without a heartbeat after which another consumer claims an entry."""

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if self.url and self.sentinels:
            raise ValueError("url and sentinels both name the server; remove one of them")
        if bool(self.sentinels) != bool(self.service) and not self.url:
            raise ValueError("sentinels and service go together: the sentinels look up the master of that service")
        if self.cluster and not (self.url or "").startswith(("redis://", "rediss://", "redis+cl", "rediss+cl")):
            raise ValueError("cluster: true needs the url of its nodes: redis://HOST:PORT,HOST:PORT")
        if (self.key_file or self.cert_file) and not (self.key_file and self.cert_file):
            raise ValueError("cert_file and key_file go together")
        if (self.tls or self.ca_file or self.cert_file) and self.address and not self.address.startswith("rediss"):
            raise ValueError("TLS needs a rediss:// url; with sentinels, set tls: true")
        return self

    @property
    def address(self) -> str | None:
        """The URL in its complete form; None: the embedded server."""
        if self.sentinels:
            return f"{'rediss' if self.tls else 'redis'}+sentinel://{','.join(self.sentinels)}/{self.service}"
        if self.cluster and self.url and "+cluster" not in self.url:
            return self.url.replace("://", "+cluster://", 1)
        return self.url
