"""The audit trail of a node besides its changes, wired: what is told behind the calls, streamed out and signed."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

from tokendance.ids import new_id
from tokendance_server.config import ServerConfig
from tokendance_server.domain.audit.asides import Asides, Fate
from tokendance_server.domain.audit.heads import KEY_FILE, HeadSigner, HeadVerifier, new_signing_key
from tokendance_server.domain.audit.stream import Sink, TrailStream
from tokendance_server.domain.clock import Clock
from tokendance_server.references import resolve_bytes
from tokendance_server.startup import StartupError
from tokendance_server.storage import secrets_dir
from tokendance_server.stores.audit_sink import FileSink, StandardOutput
from tokendance_server.stores.paths import read_private
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.audit_stream import SqlStreamStore
from tokendance_server.stores.sql.database import Database
from tokendance_server.telemetry import logger


def open_asides(database: Database, clock: Clock, registry: CollectorRegistry) -> Asides:
    """Wire what tells sign-ins and refusals. It must be started, so that they reach the database."""
    return Asides(SqlAuditStore(database), clock, _CountedAsides(registry))


def open_stream(config: ServerConfig, database: Database, clock: Clock, registry: CollectorRegistry) -> TrailStream:
    """Wire what streams the trail and signs its ends. It must be started. Raises StartupError for a key of no use."""
    store = SqlStreamStore(database, clock, new_id("run"))
    stream = TrailStream(store, open_signer(config), clock, _LoggedStream(), _sink(config))
    Gauge(
        "tokendance_audit_sink_lag_seconds",
        "How old the oldest event is that the sink has not got from this node; 0 on nodes that do not stream.",
        registry=registry,
    ).set_function(lambda: stream.lag_s)
    return stream


def open_signer(config: ServerConfig, *, make: bool = True) -> HeadSigner:
    """Return the signing key of a node, made in its data directory where none is named or there, if it may be.

    Raises StartupError where it cannot be used, and where there is none and none may be made.
    """
    reference = config.audit.signing_key
    file = config.data_dir / KEY_FILE
    try:
        if reference:
            return HeadSigner(resolve_bytes(reference, secrets_dir(config.data_dir)))
        if not make and not file.exists():
            raise StartupError(f"There is no signing key {file} yet; a node makes it when it starts.")
        return HeadSigner(read_private(file, new_signing_key))
    except ValueError as exc:
        raise StartupError(f"The signing key of the audit trail, {reference or file}, cannot be used: {exc}.") from exc


def open_verifier(config: ServerConfig) -> HeadVerifier:
    """Return what checks signatures under the key of a node. Raises as `open_signer`."""
    return HeadVerifier(open_signer(config).public_pem)


def _sink(config: ServerConfig) -> Sink | None:
    kind, _, path = config.audit.sink.partition(":")
    if not kind:
        return None
    return StandardOutput() if kind == "stdout" else FileSink(config.data_dir.absolute() / Path(path))


class _LoggedStream:
    """Logs how the stream fares. Satisfies StreamTold."""

    def failing(self, error: Exception | None) -> None:
        """Log it."""
        if error is None:
            logger().info("audit_streamed_again")
        else:
            logger().error("audit_not_streamed", error=type(error).__name__, detail=str(error))

    def broken(self, chain: str, sequence: int) -> None:
        """Log it."""
        logger().error("audit_chain_broken", chain=chain, sequence=sequence)


class _CountedAsides:
    """Counts the events, and logs when they cannot be written. Satisfies Told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "tokendance_audit_asides",
            "Sign-ins and refusals for the audit trail, by what became of them: written, alike, over_limit or lost.",
            ["fate"],
            registry=registry,
        )
        fates: tuple[Fate, ...] = ("written", "alike", "over_limit", "lost")
        self._counts = {fate: counter.labels(fate) for fate in fates}

    def ended(self, fate: Fate, count: int = 1) -> None:
        """Count events."""
        self._counts[fate].inc(count)

    def failing(self, error: Exception | None) -> None:
        """Log it."""
        if error is None:
            logger().info("audit_asides_written_again")
        else:
            logger().error("audit_asides_not_written", error=type(error).__name__, detail=str(error))
