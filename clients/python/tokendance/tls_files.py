"""Certificate files in PEM: checked in plain words, read as one set, and known to have changed. Opens no connection."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

Stamp = tuple[tuple[int, int, int], ...]
"""What tells one state of the files from the next: inode, size and time of change (of content or mode) of each."""


@dataclass(frozen=True, slots=True)
class TlsPems:
    """What the files held at one moment, in PEM. `authority` is empty where no file was named."""

    certificate: bytes
    key: bytes
    authority: bytes


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate with its chain, its private key and, where the other side is checked, the authority's."""

    certificate: Path
    key: Path
    authority: Path | None = None

    def problems(self) -> list[str]:
        """Return a line for everything that keeps the files from being used; no line holds any of their content."""
        found = {path: line for path in self._paths if (line := _unreadable(path))}
        for path in (self.certificate, self.authority):
            if path is not None and path not in found and not _has_certificates(path):
                found[path] = f"{path} holds no certificate in PEM"
        lines = list(found.values())
        if self.certificate not in found and self.key not in found:
            lines += _pair_problems(self.certificate, self.key)
        return lines

    def read(self) -> TlsPems:
        """Return the content; raises ValueError with every problem, also where the files change meanwhile."""
        before = self.stamp()
        problems = self.problems()
        if problems:
            raise ValueError("; ".join(problems))
        authority = b"" if self.authority is None else self.authority.read_bytes()
        pems = TlsPems(self.certificate.read_bytes(), self.key.read_bytes(), authority)
        if self.stamp() != before:
            raise ValueError("the files are being changed right now")
        return pems

    def stamp(self) -> Stamp:
        """Return what differs once a file was changed or replaced; a file that is not there is all zeros."""
        return tuple(map(_stamp, self._paths))

    @property
    def _paths(self) -> tuple[Path, ...]:
        return (self.certificate, self.key) if self.authority is None else (self.certificate, self.key, self.authority)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_ctime_ns)


def _unreadable(path: Path) -> str:
    try:
        with path.open("rb"):
            return ""
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"


def _has_certificates(path: Path) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError):
        return False
    return context.cert_store_stats()["x509"] > 0


def _pair_problems(certificate: Path, key: Path) -> list[str]:
    asked = False

    def passphrase() -> str:
        nonlocal asked
        asked = True
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        if asked:
            return [f"{key} is encrypted; write the private key without a passphrase"]
        if error.reason == "KEY_VALUES_MISMATCH":
            return [f"{key} is not the private key of {certificate}"]
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            return [f"{certificate} is too weak to be used: its key is short, or its signature is of an old kind"]
        return [f"{key} holds no private key in PEM"]
    except OSError as error:
        return [f"{key} cannot be read: {error.strerror}"]
    return []
