"""`tokendance keys scan`: what is found, what is told of it, and what is passed over."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.tools.tokendance_cli.conftest import Run

from tokendance.credentials import base62, checksum
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import keys_service_pb2_grpc
from tokendance_cli.key_scan import MOST_BYTES, Tally, finds_in, scan


def secret_of(number: int) -> str:
    """Return a well-formed secret, the same in every process."""
    unchecked = "tdk_" + base62(number * 62**30 + 7, 43)
    return unchecked + checksum(unchecked)


WORKING, REVOKED, FOREIGN = (secret_of(number) for number in (1, 2, 3))


class FakeKeys(keys_service_pb2_grpc.KeysServiceServicer):
    """Knows two secrets, one of which works."""

    def CheckKey(self, request: pb.CheckKeyRequest, context: Any) -> pb.CheckKeyResponse:
        if request.secret == WORKING:
            return pb.CheckKeyResponse(key=pb.Key(name="organizations/o/keys/working"), valid=True)
        if request.secret == REVOKED:
            return pb.CheckKeyResponse(key=pb.Key(name="organizations/o/keys/revoked"), code="key_revoked")
        return pb.CheckKeyResponse(code="invalid_api_key")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[None]:
    """A node on the data directory `d` below the test's own."""
    (tmp_path / "d").mkdir()
    server = grpc.server(ThreadPoolExecutor(2))
    keys_service_pb2_grpc.add_KeysServiceServicer_to_server(FakeKeys(), server)  # type: ignore[abstract]
    server.add_insecure_port(f"unix:{tmp_path / 'd' / 'admin.sock'}")
    server.start()
    yield
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ('{"key": "', '"}'),
        ("prefix\\n", "\\n"),
        ("Bearer ", "\r\n"),
        ("x_", "abc"),
        ("ünï", "ü"),
        ("tdk_", ""),
    ],
)
def test_a_key_is_found_wherever_it_stands(before: str, after: str) -> None:
    """Also within escaped text, and next to other words."""
    secret = secret_of(4)
    (find,) = finds_in(f"first\n{before}{secret}{after}\n".encode(), "f")
    assert (find.secret, find.line, find.column) == (secret, 2, len(before.encode()) + 1)
    assert secret not in f"{find!r} {find.shown}"


@pytest.mark.parametrize(
    "text", ["tdk_", "tdk_" + "a" * 49, "TDK_" + "a" * 49, secret_of(4)[:-1], secret_of(4).replace("tdk_", "tdk-")]
)
def test_what_only_looks_a_little_like_one_is_none(text: str) -> None:
    """The checksum keeps placeholders and documentation quiet."""
    assert list(finds_in(text.encode(), "f")) == []


def test_places_are_counted_over_many_finds() -> None:
    """Line and column of each, several in one line too."""
    secrets = [secret_of(number) for number in range(3)]
    text = f"{secrets[0]}\n\n {secrets[1]} {secrets[2]}\n"
    places = [(find.secret, find.line, find.column) for find in finds_in(text.encode(), "f")]
    assert places == [(secrets[0], 1, 1), (secrets[1], 3, 2), (secrets[2], 3, 56)]


def test_what_is_not_looked_into_is_noted(tmp_path: Path) -> None:
    """Binary, huge and special files, links and repositories' own folders; the rest of the tree is scanned."""
    (tmp_path / "a" / ".git").mkdir(parents=True)
    (tmp_path / "a" / ".git" / "config").write_text(WORKING)
    (tmp_path / "a" / "binary").write_bytes(b"\x7fELF\0" + WORKING.encode())
    with (tmp_path / "a" / "huge").open("wb") as huge:
        huge.truncate(MOST_BYTES + 1)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "a" / "text")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "text").write_text(WORKING)
    notes: list[str] = []
    tally, looked = Tally(), []
    finds = list(scan([tmp_path], tally, notes.append, lambda: looked.append(1)))
    assert [Path(find.path).name for find in finds] == ["text"]
    assert (tally.files, tally.skipped, tally.unread, len(looked)) == (1, 3, 0, 4)
    assert [note.rpartition(": ")[2] for note in notes] == [
        "skipped, a repository's own folder; its history is not scanned",
        "skipped, binary",
        "skipped, larger than 10 MiB",
        "skipped, no regular file",
    ]


def test_the_gateway_says_which_are_real(run: Run, node: None, tmp_path: Path) -> None:
    """Working, ended and unknown; none is printed, and the exit code fails a build."""
    (tmp_path / "f").write_text(f"{WORKING}\n{REVOKED}\n{FOREIGN}\n{WORKING}\n")
    told = run("--data-dir", "d", "--format", "json", "keys", "scan", "f")
    assert told.returncode == 1
    verdicts = [(one["line"], one["is"], one["key"]) for one in json.loads(told.stdout)]
    assert verdicts == [
        (1, "works", "organizations/o/keys/working"),
        (2, "key_revoked", "organizations/o/keys/revoked"),
        (3, "unknown here", ""),
        (4, "works", "organizations/o/keys/working"),
    ]
    for secret in (WORKING, REVOKED, FOREIGN):
        assert secret not in told.stdout + told.stderr
    assert "keys leaked" in told.stderr


@pytest.mark.parametrize(("secret", "code"), [(REVOKED, 0), (FOREIGN, 1), ("nothing", 0)])
def test_the_exit_code_says_whether_harm_is_possible(
    run: Run, node: None, tmp_path: Path, secret: str, code: int
) -> None:
    """A key that ended for good does none; one that is unknown here may belong to another gateway."""
    told = run("--data-dir", "d", "keys", "scan", "-", stdin=secret)
    assert told.returncode == code, told.stderr


def test_without_a_gateway_what_looks_real_counts(run: Run, tmp_path: Path) -> None:
    """Asked for, or because none can be reached, which is said."""
    (tmp_path / "f").write_text(WORKING)
    for words, note in ((["--offline"], False), ([], True)):
        told = run("--data-dir", "none", "keys", "scan", "f", *words)
        assert told.returncode == 1
        assert "looks real" in told.stdout
        assert ("could not be asked" in told.stderr) is note
    told = run("keys", "scan", "nowhere")
    assert (told.returncode, "There is no nowhere." in told.stderr) == (2, True)
