"""What a node says when it is up."""

import json
import subprocess
from pathlib import Path

import pytest

from tokendance_cli.announcement import addresses, curl_line, first_key, open_addresses


def test_addresses_are_listed() -> None:
    """Each listener has a line, and what is not there has none."""
    lines = addresses("http://127.0.0.1:8080", "", "127.0.0.1:50051", Path("data")).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["REST", "http://127.0.0.1:8080/v1"],
        ["gRPC", "127.0.0.1:50051"],
        ["data", str(Path("data").resolve())],
    ]


@pytest.mark.parametrize("in_file", [True, False])
def test_curl_line_works_as_pasted(tmp_path: Path, in_file: bool) -> None:
    """A shell takes the line for one command, and the key for its own, wherever that is kept."""
    key_file = tmp_path / "it's here"
    key_file.write_text("tdk_a\n", encoding="utf-8")
    line = curl_line("http://0.0.0.0:8080", "demo-echo", "tdk_a", key_file if in_file else None)
    assert ("tdk_a" in line) is not in_file
    script = f"curl() {{ printf '%s\\0' \"$@\"; }}\n{line}"
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")
    assert words[0] == "http://127.0.0.1:8080/v1/chat/completions"
    assert words[2] == "Authorization: Bearer tdk_a"
    assert json.loads(words[-2])["model"] == "demo-echo"


def test_curl_line_takes_the_key_from_the_environment() -> None:
    """After the first start the key is no longer known, and the line says where it is taken from."""
    assert '-H "Authorization: Bearer $TOKENDANCE_API_KEY"' in curl_line("http://127.0.0.1:1", "m", None, None)


def test_curl_line_of_a_unix_socket() -> None:
    """A facade on a Unix socket is called through it."""
    assert "--unix-socket /run/a.sock" in curl_line("unix:///run/a.sock", "m", None, None)


def test_first_key_is_shown_or_its_file_named() -> None:
    """The secret is printed only where no file was asked for."""
    assert "export TOKENDANCE_API_KEY=tdk_a" in first_key("organizations/o", "tdk_a", None)
    assert "tdk_a" not in first_key("organizations/o", "tdk_a", Path("key"))


def test_open_addresses_are_warned_of() -> None:
    """Loopback and sockets are silent; everything else is told once each."""
    assert open_addresses("http://127.0.0.1:8080", "http://[::1]:8081", "localhost:50051") == []
    assert open_addresses("unix:///run/a.sock", "", "unix:/run/b.sock") == []
    warnings = open_addresses("http://0.0.0.0:8080", "http://10.0.0.1:8081", "[::]:50051", "0.0.0.0:50053")
    assert [warning.split(" listens on ")[0] for warning in warnings] == [
        "REST",
        "The internal listener",
        "gRPC",
        "gRPC for callers outside",
    ]
    for warning, table in zip(
        warnings, ("facade.tls", "facade.internal_tls", "server.tls", "server.grpc_public_tls"), strict=True
    ):
        assert f"[{table}]" in warning
        assert "can be read on the way" in warning
    assert open_addresses("https://0.0.0.0:8080", "https://10.0.0.1:8081", "") == []
