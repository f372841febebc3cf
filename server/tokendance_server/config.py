"""The server's settings: frozen, typed, checked whole at start, and printable without their secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from tokendance.tls_files import TlsFiles
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.keys.networks import parse_network
from tokendance_server.domain.names import tenant_of
from tokendance_server.identity_settings import IdentitySettings

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f\x7f]{1,256}$")]
# Whole names only: a pattern would let every machine of a domain speak for callers.
Identity = Annotated[str, StringConstraints(pattern=r"^([a-z0-9_-]+(\.[a-z0-9_-]+)*|[a-z][a-z0-9+.-]*:[!-~]+)$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
MiB = 1024 * 1024
_DATABASE_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]|/[^@:]+)(?::[0-9]{1,5})?")
# No at sign: one would come of a password with a slash in it, and the name is shown.
_DATABASE_NAME = re.compile(r"/[^/@]+")


class Settings(BaseModel):
    """What all tables have in common: no unknown names, no change after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Draining(Settings):
    """What becomes of an upstream's answer when its caller leaves midway.

    By default the upstream is cancelled. With `after_leaving` the rest is read, for upstreams that bill it in any case:
    at most `count` answers at once, `answer_bytes` and `seconds` of each.
    """

    after_leaving: bool = False
    count: int = Field(default=100, ge=1, le=10_000)
    answer_bytes: int = Field(default=8 * MiB, ge=1024)
    seconds: Seconds = 60


class ReplaySettings(Settings):
    """Table [server.replay]: answers kept for calls that come again with the same idempotency key.

    One of more than `answer_bytes` is not kept, the others for `keep_s` seconds, `answers_per_key` of one API key. A
    repeat waits for `wait_s` seconds while the first call runs. When the first caller leaves, the bounds `count` and
    `seconds` of [server.draining] hold.
    """

    answer_bytes: int = Field(default=MiB, ge=1024, le=16 * MiB)
    keep_s: float = Field(default=86_400, ge=60, le=7 * 86_400)
    answers_per_key: int = Field(default=1000, ge=1, le=100_000)
    wait_s: float = Field(default=30, ge=0, le=600)


class Limits(Settings):
    """How much one call may be, and how much may run at once. Sizes in bytes.

    `in_flight` is how many calls may run at once. While the event loop is more than `loop_lag_s` seconds late, model
    calls are refused. From one address outside, `failed_sign_ins_per_minute` may fail before the next waits; 0: any.
    """

    grpc_message_bytes: int = Field(default=40 * MiB, ge=64 * 1024)
    grpc_metadata_bytes: int = Field(default=16 * 1024, ge=4 * 1024)
    grpc_concurrent_streams: int = Field(default=1000, ge=1)
    upstream_answer_bytes: int = Field(default=64 * MiB, ge=64 * 1024)
    upstream_event_bytes: int = Field(default=8 * MiB, ge=4 * 1024)
    in_flight: int = Field(default=4000, ge=1)
    loop_lag_s: float = Field(default=0.25, ge=0.05, le=60)
    failed_sign_ins_per_minute: int = Field(default=60, ge=0, le=100_000)


class Deadlines(Settings):
    """How long one call may take where the caller says nothing, and at most. In seconds.

    A caller over gRPC that takes nothing of an answer for `write_stall_s` is given up, and so is one whose message is
    not whole after `receive_s`.
    """

    unary_s: Seconds = 600
    stream_s: Seconds = 3600
    admin_s: Seconds = 30
    margin_s: float = Field(default=0.25, ge=0, le=5)
    write_stall_s: Seconds = 60
    receive_s: Seconds = 60


class EgressSettings(Settings):
    """Table [server.egress]: what the node may connect to besides public addresses.

    `allow_loopback` is this machine itself; where nothing is said, a node allows it that is whole in one process and
    listens on loopback only. `allow_private` are private networks such as `10.0.0.0/8`.
    """

    allow_loopback: bool | None = None
    allow_private: tuple[str, ...] = ()

    @field_validator("allow_private")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        EgressPolicy(allowed_private=map(parse_network, value))
        return value

    def policy(self, *, loopback_only: bool) -> EgressPolicy:
        """Return the policy of a node; `loopback_only` tells that it is whole in one process and on loopback only."""
        return EgressPolicy(
            allow_loopback=loopback_only if self.allow_loopback is None else self.allow_loopback,
            allowed_private=map(parse_network, self.allow_private),
        )


class UsageSettings(Settings):
    """Table [server.usage]: the journal of usage, and how long rows of it stay in the database.

    `journal_bytes` bounds the journal; at it calls that cost are refused. `fsync` is when the disk is asked to keep
    what was written: `always` before each answer ends, `batch` within 50 ms, `off` never. Records of requests stay for
    `keep_records_days`, sums by hour for `keep_hours_days`, sums by day for good. `tokenizers` names the vocabulary of
    models whose prompts are to be counted exactly; it needs the extra `tokens`.
    """

    journal_bytes: int = Field(default=256 * MiB, ge=MiB)
    fsync: Literal["off", "batch", "always"] = "batch"
    keep_records_days: int = Field(default=400, ge=1, le=36_500)
    keep_hours_days: int = Field(default=400, ge=1, le=36_500)
    tokenizers: dict[ModelName, Literal["cl100k_base", "o200k_base"]] = Field(default_factory=dict)


class TlsSettings(Settings):
    """Table [server.tls]: the certificate of the gRPC listener, with its chain, and its private key, both in PEM."""

    certificate: Path
    key: Path

    def files(self) -> TlsFiles:
        """Return the files that the listener presents."""
        return TlsFiles(self.certificate, self.key)


class FacadeTlsSettings(TlsSettings):
    """Table [server.facade_tls]: what the facade's listener presents, and whom it takes for a facade.

    A facade has a certificate of `client_ca` that names one of `identities` as subject alternative name: a DNS name,
    or a URI such as `spiffe://example.com/facade`.
    """

    client_ca: Path
    identities: frozenset[Identity] = Field(min_length=1)

    def files(self) -> TlsFiles:
        """Return the files that the listener presents and checks callers with."""
        return TlsFiles(self.certificate, self.key, self.client_ca)


class ServiceSettings(Settings):
    """One [[server.tls.services]]: an internal service, known by a name in its client certificate.

    `certificate_name` is a DNS name or a URI, whole. `organization` is `organizations/org_…`, empty for a service of
    the whole platform.
    """

    certificate_name: Identity
    name: Name
    organization: str = ""

    @field_validator("organization")
    @classmethod
    def _check_organization(cls, value: str) -> str:
        if value and tenant_of(value) != value.removeprefix("organizations/"):
            raise ValueError("an organization is named organizations/org_…")
        return value


class GrpcTlsSettings(TlsSettings):
    """Table [server.tls]: what the gRPC listener presents, and, with `client_ca`, whom it lets in at all.

    With it every caller needs a certificate that it signed; `services` are those whose certificate is who they are.
    """

    client_ca: Path | None = None
    services: tuple[ServiceSettings, ...] = ()

    @model_validator(mode="after")
    def _check_services(self) -> GrpcTlsSettings:
        if self.services and self.client_ca is None:
            raise ValueError("services need client_ca, which signs their certificates")
        names = [one.certificate_name for one in self.services]
        if len(set(names)) != len(names):
            raise ValueError("services: two of them have one certificate_name")
        return self

    def files(self) -> TlsFiles:
        """Return the files that the listener presents and checks callers with."""
        return TlsFiles(self.certificate, self.key, self.client_ca)


class RoutingSettings(Settings):
    """Table [server.routing]: how much is asked of upstreams besides the first call of each request.

    Retries are at most `retry_share` of the requests of ten seconds, and `least_retries` of them in any case. Routes
    that are out are asked for their list of models every `probe_s` seconds; 0: only calls find whether they work again.
    """

    retry_share: float = Field(default=0.2, ge=0, le=1)
    least_retries: int = Field(default=10, ge=0, le=10_000)
    probe_s: float = Field(default=0, ge=0, le=3600)


class AuditSettings(Settings):
    """Table [server.audit]: where the audit trail is streamed to, and what signs the ends of its chains.

    `sink` is `stdout`, or `file:` with a path, from the data directory where it is not absolute. `signing_key` says
    where the private key of Ed25519 is, in PEM, instead of in the data directory.
    """

    sink: str = Field(default="", max_length=1024, pattern=r"^(|stdout|file:[^\x00]+)$")
    signing_key: str = Field(default="", max_length=512)

    @field_validator("signing_key")
    @classmethod
    def _check_signing_key(cls, value: str) -> str:
        if value:
            _check_reference(value, "signing key", "AUDIT")
        return value


class ServerConfig(Settings):
    """Table [server]: where the server listens and keeps its data.

    `grpc` carries every service, for the trust zone; `grpc_public` is a second listener for callers outside of it, with
    what API keys may call and the public views, and `grpc_public_tls` makes that one speak TLS.
    `facade_grpc` is where facades on other machines connect, with certificates; `tls` makes the listener of `grpc`
    speak TLS. `database_url` is a PostgreSQL that nodes share, instead of a SQLite file in the data directory; with
    `redis_url` many nodes serve it at once. `pepper` says where the pepper is, instead of in the data directory, and
    `old_peppers` where those are that digests may still have been made under. `key_ring` says where the keys are that
    seal providers' credentials, the one that seals first.
    `upstream_client` is what speaks HTTP to providers; both do the same, and `lean` takes less of the processor for it.
    """

    data_dir: Path = Path(".tokendance")
    grpc: str = "127.0.0.1:50051"
    tls: GrpcTlsSettings | None = None
    grpc_public: str = ""
    grpc_public_tls: TlsSettings | None = None
    facade_grpc: str = ""
    facade_tls: FacadeTlsSettings | None = None
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    pepper: str = Field(default="", max_length=512)
    old_peppers: tuple[str, ...] = Field(default=(), max_length=8)
    key_ring: tuple[str, ...] = Field(default=(), max_length=8)
    limits: Limits = Limits()
    deadlines: Deadlines = Deadlines()
    draining: Draining = Draining()
    replay: ReplaySettings = ReplaySettings()
    egress: EgressSettings = EgressSettings()
    usage: UsageSettings = UsageSettings()
    routing: RoutingSettings = RoutingSettings()
    audit: AuditSettings = AuditSettings()
    identity: IdentitySettings = IdentitySettings()
    upstream_client: Literal["aiohttp", "lean"] = "lean"
    key_cache_size: int = Field(default=100_000, ge=1)
    # Changed keys are dropped at once; this bounds only how long an unchanged one is believed.
    key_cache_s: Seconds = 300
    changes_stale_after_s: float = Field(default=5, ge=1, le=60)
    stop_grace_s: float = Field(default=20, ge=0, le=3600)
    reflection: bool | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("grpc", "grpc_public", "facade_grpc")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return value if not value else check_address(value)

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_database_url(value.get_secret_value())
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("a Redis is given as redis://:PASSWORD@HOST:PORT/0, or rediss:// with TLS")
        return value

    @field_validator("pepper")
    @classmethod
    def _check_pepper(cls, value: str) -> str:
        if value:
            _check_reference(value, "pepper", "PEPPER")
        return value

    @field_validator("old_peppers")
    @classmethod
    def _check_old_peppers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            _check_reference(one, "pepper", "PEPPER")
        return value

    @field_validator("key_ring")
    @classmethod
    def _check_key_ring(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            _check_reference(one, "key of the ring", "RING")
        return value

    @model_validator(mode="after")
    def _check_listeners(self) -> ServerConfig:
        if self.facade_grpc and self.facade_tls is None:
            raise ValueError("facade_grpc needs the table [server.facade_tls]: a facade is known by its certificate")
        if self.facade_tls is not None and not self.facade_grpc:
            raise ValueError("[server.facade_tls] needs facade_grpc, the HOST:PORT where facades connect")
        if self.tls is not None and not self.grpc:
            raise ValueError("[server.tls] needs grpc, the HOST:PORT whose listener speaks TLS")
        if self.grpc_public_tls is not None and not self.grpc_public:
            raise ValueError("[server.grpc_public_tls] needs grpc_public, the HOST:PORT whose listener speaks TLS")
        return self


def check_address(value: str) -> str:
    """Return `host:port` as given; raises ValueError where it is not one. Port 0 lets the system choose."""
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("an address is host:port, such as 127.0.0.1:50051 or [::1]:50051")
    return value


def check_database_url(url: str) -> None:
    """Raise ValueError, without a word of the URL, where it is none of PostgreSQL's: host and name are needed."""
    form = "postgresql://USER:PASSWORD@HOST:PORT/NAME"
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("postgresql:")
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(f"a database is given as {form}; without the setting the node keeps a SQLite file")
    hosts = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", [""])[0]
    if not all(map(_DATABASE_HOST.fullmatch, hosts.split(","))) or not _DATABASE_NAME.fullmatch(parts.path):
        raise ValueError(
            f"a database is given as {form}; the host or the name is missing, or the password holds one of / ? # @, "
            "which are written %2F %3F %23 %40"
        )


def _check_reference(reference: str, what: str, variable: str) -> None:
    if not reference.startswith((f"env:TOKENDANCE_GATEWAY_{variable}", "file:")):
        raise ValueError(
            f"a {what} is a reference: env:TOKENDANCE_GATEWAY_{variable}… or file:…, never the secret itself"
        )
