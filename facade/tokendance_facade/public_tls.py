"""TLS of the public listener: a certificate that is read again by the next handshake after it changed."""

from __future__ import annotations

import ssl

import structlog

from tokendance.tls_files import TlsFiles

_log = structlog.get_logger("tokendance_facade")


class PublicTls:
    """Keeps the SSLContext of the newest certificate that can be used. Raises ValueError where the first cannot."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = files.stamp()
        self._newest = self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        problems = self._files.problems()
        if problems:
            raise ValueError("; ".join(problems))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._files.certificate, self._files.key)
        except (ssl.SSLError, OSError) as error:
            raise ValueError("the files are being changed right now") from error
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Give a handshake the newest context; the listener itself keeps the first one."""
        stamp = self._files.stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._newest = self._load()
            except ValueError as error:
                _log.warning("certificates_not_renewed", why=str(error))
            else:
                _log.info("certificates_renewed", certificate=str(self._files.certificate))
        connection.context = self._newest
