"""The certificates that a role of the gateway is configured with: everything that would keep them from working."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography import x509

from tokendance.tls_files import TlsFiles
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.node import Role
from tokendance_cli.settings import GatewaySettings


def check_certificates(settings: GatewaySettings, role: Role) -> None:
    """Raise CommandError with every mistake in the certificates of a role."""
    mistakes = list(certificate_mistakes(settings, role, datetime.now(UTC)))
    if mistakes:
        raise CommandError("The certificates cannot be used:", *mistakes, exit_code=USAGE)


def certificate_mistakes(settings: GatewaySettings, role: Role, now: datetime) -> Iterator[str]:
    """Yield a line for each mistake: the table, and what is wrong. Tables of other roles are of other machines."""
    server, facade = settings.server, settings.facade
    served = {
        "server.tls": server.tls,
        "server.grpc_public_tls": server.grpc_public_tls,
        "server.facade_tls": server.facade_tls,
    }
    tables = {} if role is Role.FACADE else {name: one.files() for name, one in served.items() if one is not None}
    if role is not Role.SERVER and facade.tls is not None:
        tables["facade.tls"] = facade.tls.files()
    if facade.internal_tls is not None:
        tables["facade.internal_tls"] = facade.internal_tls.files()
    if role is Role.FACADE and facade.server_tls is not None:
        tables["facade.server_tls"] = facade.server_tls.files()
    for table, files in tables.items():
        problems = files.problems()
        yield from (f"{table}: {problem}" for problem in problems)
        if not problems:
            yield from (f"{table}: {problem}" for problem in _untimely(files, now))


def _untimely(files: TlsFiles, now: datetime) -> Iterator[str]:
    # The first one is the certificate itself; those behind it are its issuers'.
    certificate = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
    if now >= certificate.not_valid_after_utc:
        yield f"{files.certificate} has expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
    if now < certificate.not_valid_before_utc:
        yield f"{files.certificate} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
