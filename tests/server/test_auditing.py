"""The signing key of a node's audit trail: made once, private, by reference, and refused where it is of no use."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from tokendance_server.auditing import open_signer
from tokendance_server.config import AuditSettings, ServerConfig
from tokendance_server.domain.audit.heads import KEY_FILE, new_signing_key
from tokendance_server.startup import StartupError


def _config(folder: Path, **audit: str) -> ServerConfig:
    return ServerConfig(data_dir=folder, audit=AuditSettings(**audit))


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    """The next start has the same; who only looks makes none."""
    with pytest.raises(StartupError, match="no signing key"):
        open_signer(_config(tmp_path), make=False)
    signer = open_signer(_config(tmp_path))
    assert open_signer(_config(tmp_path), make=False).key_id == signer.key_id
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_a_key_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file below the secrets directory, or in a variable; then the data directory has none."""
    pem = new_signing_key()
    (tmp_path / "secrets").mkdir()
    file = tmp_path / "secrets" / "audit"
    file.write_bytes(pem)
    file.chmod(0o600)
    monkeypatch.setenv("TOKENDANCE_GATEWAY_AUDIT_KEY", pem.decode())
    found = {
        open_signer(_config(tmp_path, signing_key=reference)).key_id
        for reference in ("file:audit", "env:TOKENDANCE_GATEWAY_AUDIT_KEY")
    }
    assert len(found) == 1
    assert not (tmp_path / KEY_FILE).exists()


@pytest.mark.parametrize("reference", ["file:missing", "file:no_key", "file:open", "env:TOKENDANCE_GATEWAY_AUDIT_NONE"])
def test_a_key_of_no_use_stops_the_start(tmp_path: Path, reference: str) -> None:
    """With one line that names the reference, and nothing of the key."""
    (tmp_path / "secrets").mkdir()
    for name, content, mode in (("no_key", b"secret", 0o600), ("open", new_signing_key(), 0o644)):
        (tmp_path / "secrets" / name).write_bytes(content)
        (tmp_path / "secrets" / name).chmod(mode)
    with pytest.raises(StartupError) as refused:
        open_signer(_config(tmp_path, signing_key=reference))
    assert reference in str(refused.value)
    assert "PRIVATE" not in str(refused.value)


@pytest.mark.parametrize(
    "audit",
    [
        {"sink": "syslog"},
        {"sink": "file:"},
        {"sink": "stdout:x"},
        {"sink": "file:a\0b"},
        {"signing_key": "-----BEGIN PRIVATE KEY-----"},
        {"signing_key": "env:HOME"},
    ],
)
def test_settings_of_no_sense_are_refused(audit: dict[str, str]) -> None:
    """Before anything starts."""
    with pytest.raises(ValidationError):
        AuditSettings(**audit)
