"""Certificates that would not work are told before a node starts, each with the table that names it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import FACADE_NAME, SERVER_NAMES, Authority

from tokendance_cli.certificates import certificate_mistakes
from tokendance_cli.node import Role
from tokendance_cli.settings import GatewaySettings

MORE: dict[tuple[str, str], dict[str, Any]] = {
    ("server", "tls"): {"client_ca": "ca"},
    ("server", "grpc_public_tls"): {},
    ("server", "facade_tls"): {"client_ca": "ca", "identities": [FACADE_NAME]},
    ("facade", "tls"): {},
    ("facade", "internal_tls"): {},
}
PLACES = {
    ("server", "grpc_public_tls"): {"grpc_public": "127.0.0.1:0"},
    ("server", "facade_tls"): {"facade_grpc": "127.0.0.1:0"},
}


def _mistakes(folder: Path, table: tuple[str, str], *, valid_for: timedelta, spoil: str = "") -> list[str]:
    authority = Authority()
    files = authority.sign(SERVER_NAMES, valid_for=valid_for).write(folder, "shown", authority.certificate)
    if spoil:
        (folder / spoil).write_bytes(b"nonsense")
    told = {"certificate": str(files.certificate), "key": str(files.key), **MORE[table]}
    if "client_ca" in told:
        told["client_ca"] = str(files.authority)
    half, name = table
    settings = GatewaySettings.model_validate({half: {**PLACES.get(table, {}), name: told}})
    return list(certificate_mistakes(settings, Role.ALL, datetime.now(UTC)))


@pytest.mark.parametrize("table", MORE, ids=".".join)
def test_each_listeners_certificate_is_looked_at(tmp_path: Path, table: tuple[str, str]) -> None:
    """One that is good is silent; one that has ended, and files that are none, are a line each."""
    assert _mistakes(tmp_path, table, valid_for=timedelta(days=1)) == []
    (ended,) = _mistakes(tmp_path, table, valid_for=timedelta(minutes=-1))
    assert ended.startswith(f"{'.'.join(table)}: ")
    assert "has expired" in ended
    (odd,) = _mistakes(tmp_path, table, valid_for=timedelta(days=1), spoil="shown.key")
    assert odd == f"{'.'.join(table)}: {tmp_path / 'shown.key'} holds no private key in PEM"


@pytest.mark.parametrize("table", [("server", "tls"), ("server", "facade_tls")], ids=".".join)
def test_who_signs_callers_is_looked_at_too(tmp_path: Path, table: tuple[str, str]) -> None:
    """Without it nobody could come in, and nobody would know why."""
    (odd,) = _mistakes(tmp_path, table, valid_for=timedelta(days=1), spoil="shown-ca.pem")
    assert odd == f"{'.'.join(table)}: {tmp_path / 'shown-ca.pem'} holds no certificate in PEM"
