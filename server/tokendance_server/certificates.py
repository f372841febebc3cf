"""The certificates of the server's listeners: read at start, and again by the next handshake after they changed."""

from __future__ import annotations

import threading

import grpc

from tokendance.tls_files import TlsFiles, TlsPems
from tokendance_server.startup import StartupError
from tokendance_server.telemetry import logger


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return what a listener presents; where `files` name an authority, only its certificates are let in.

    Whoever uses it must keep it alive. Raises StartupError where the files cannot be used.
    """
    watched = _Watched(files)
    return grpc.dynamic_ssl_server_credentials(
        watched.first,
        watched.changed,  # type: ignore[arg-type]  # None keeps the present one, says gRPC's documentation
        require_client_authentication=files.authority is not None,
    )


class _Watched:
    """Files whose change is seen by the next handshake. Files that cannot be used change nothing."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        # Handshakes run on gRPC's own threads.
        self._lock = threading.Lock()
        self._seen = files.stamp()
        try:
            self.first = _configuration(files.read())
        except ValueError as error:
            raise StartupError(f"The certificates cannot be used: {error}.") from error

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration, or None where the present one stays."""
        with self._lock:
            stamp = self._files.stamp()
            if stamp == self._seen:
                return None
            # Whatever comes of it: the same files are looked at once, and others make another stamp.
            self._seen = stamp
            try:
                renewed = _configuration(self._files.read())
            except ValueError as error:
                logger().warning("certificates_not_renewed", why=str(error))
                return None
        logger().info("certificates_renewed", certificate=str(self._files.certificate))
        return renewed


def _configuration(pems: TlsPems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], pems.authority or None)
