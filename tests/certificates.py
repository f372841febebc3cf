"""A certificate authority that the tests throw away: certificates of any name and age, as files."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tokendance.tls_files import TlsFiles

SERVER_NAMES = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
FACADE_NAME = "facade.gateway.example"
FACADE_NAMES = (x509.DNSName(FACADE_NAME),)
_PKCS8 = serialization.PrivateFormat.PKCS8
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str, authority: bytes | None = None) -> TlsFiles:
        """Write both, and the authority they are checked against, as an operator's tools do: replaced in one step."""
        contents = {f"{name}.pem": self.certificate, f"{name}.key": self.key}
        if authority is not None:
            contents[f"{name}-ca.pem"] = authority
        for file, content in contents.items():
            new = folder / f"{file}.new"
            new.write_bytes(content)
            new.replace(folder / file)
        return TlsFiles(
            folder / f"{name}.pem", folder / f"{name}.key", None if authority is None else folder / f"{name}-ca.pem"
        )


class Authority:
    """Signs whatever it is asked to. All authorities of the tests have the same name: only their keys differ."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("Certificates of a test")
        certificate = (
            _builder(self._name, self._name, self._key, timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        )
        self.certificate = certificate.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def sign(
        self,
        names: Sequence[x509.GeneralName],
        *,
        common_name: str = "a test",
        valid_for: timedelta = timedelta(days=1),
    ) -> Certificate:
        """Make a certificate of these alternative names; one `valid_for` less than nothing has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        # Tells authorities of one name apart, as while an old one and a new one are believed side by side.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_named(common_name), self._name, key, valid_for).add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)
        return Certificate(certificate, key.private_bytes(_PEM, _PKCS8, serialization.NoEncryption()))


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid_for: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + valid_for)
    )
