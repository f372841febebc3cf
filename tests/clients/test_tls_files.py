"""Certificate files: what is wrong with them in plain words, and when they have changed."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from tests.certificates import SERVER_NAMES, Authority

from tokendance.tls_files import TlsFiles


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """A certificate, its key and its authority."""
    authority = Authority()
    return authority.sign(SERVER_NAMES).write(tmp_path, "server", authority.certificate)


def test_files_that_belong_together_are_read(files: TlsFiles) -> None:
    """As they stand; also where nothing is checked with an authority."""
    assert files.problems() == []
    pems = files.read()
    assert files.authority is not None
    assert (pems.certificate, pems.key) == (files.certificate.read_bytes(), files.key.read_bytes())
    assert pems.authority == files.authority.read_bytes()
    assert TlsFiles(files.certificate, files.key).read().authority == b""


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    """At once, each by its own name."""
    files = TlsFiles(tmp_path / "a.pem", tmp_path / "a.key", tmp_path)
    assert files.problems() == [
        f"{tmp_path}/a.pem cannot be read: No such file or directory",
        f"{tmp_path}/a.key cannot be read: No such file or directory",
        f"{tmp_path} cannot be read: Is a directory",
    ]
    with pytest.raises(ValueError, match=r"a\.pem cannot be read.*; .*a\.key cannot be read"):
        files.read()


def test_a_key_of_another_certificate_is_told(files: TlsFiles) -> None:
    """The commonest mistake of all."""
    files.key.write_bytes(Authority().sign(SERVER_NAMES).key)
    assert files.problems() == [f"{files.key} is not the private key of {files.certificate}"]


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_told(files: TlsFiles, content: bytes) -> None:
    """Of both files that hold one; the key cannot be judged without."""
    assert files.authority is not None
    files.certificate.write_bytes(content)
    files.authority.write_bytes(content)
    lines = [f"{path} holds no certificate in PEM" for path in (files.certificate, files.authority)]
    assert files.problems() == lines


def test_what_is_no_private_key_is_told(files: TlsFiles) -> None:
    """A certificate instead of the key, or nothing of the kind."""
    for content in (b"junk", files.certificate.read_bytes()):
        files.key.write_bytes(content)
        assert files.problems() == [f"{files.key} holds no private key in PEM"]


def test_an_encrypted_key_is_told_and_nobody_is_asked(files: TlsFiles) -> None:
    """A server has nobody at its terminal."""
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    encrypted = serialization.BestAvailableEncryption(b"correct horse")
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted))
    assert files.problems() == [f"{files.key} is encrypted; write the private key without a passphrase"]


def test_a_weak_certificate_is_told(tmp_path: Path) -> None:
    """Its key would be refused by whoever connects."""
    files = TlsFiles(tmp_path / "weak.pem", tmp_path / "weak.key")
    make = "openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=weak -days 1 -keyout weak.key -out weak.pem"
    subprocess.run(make.split(), check=True, cwd=tmp_path, capture_output=True)
    assert files.problems() == [
        f"{files.certificate} is too weak to be used: its key is short, or its signature is of an old kind"
    ]


def test_no_line_holds_anything_of_a_file(files: TlsFiles) -> None:
    """Lines go to logs and screens."""
    files.key.write_bytes(b"a secret canary")
    assert "canary" not in "".join(files.problems())


def test_changes_are_seen(files: TlsFiles) -> None:
    """Of any of the files: replaced, written over, given another mode, or gone."""
    assert files.authority is not None
    stamps = [files.stamp()]
    assert files.stamp() == stamps[0]
    new = files.certificate.with_name("new")
    new.write_bytes(Authority().sign(SERVER_NAMES, valid_for=timedelta(days=3)).certificate)
    for change in (
        lambda: new.replace(files.certificate),
        lambda: files.key.write_bytes(b"another"),
        lambda: files.key.chmod(0o640),
        files.authority.unlink,
    ):
        change()
        stamps.append(files.stamp())
    assert len(set(stamps)) == len(stamps)
