"""`tokendance id token`: over the key in a data directory, without a node and without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tools.tokendance_cli.conftest import Run

from tokendance.gateway.v1 import access_pb2
from tokendance_server.domain.clock import SystemClock
from tokendance_server.domain.identity.development import DevelopmentKey, development_tokens, new_key

ACME = "organizations/org_00000000000000000000000000"


@pytest.fixture
def key(tmp_path: Path) -> DevelopmentKey:
    """The key of the data directory that the command finds by default."""
    folder = tmp_path / ".tokendance"
    folder.mkdir(mode=0o700)
    (folder / "identity.pem").write_bytes(new_key())
    return DevelopmentKey((folder / "identity.pem").read_bytes())


async def test_a_token_is_printed(run: Run, key: DevelopmentKey) -> None:
    """Alone on standard output, so that it can be taken into a variable; ids stand for names."""
    done = run("id", "token", "--role", "member", "--organization", ACME.rpartition("/")[2], "--member", "user_1")
    assert (done.returncode, done.stderr) == (0, "")
    principal = await development_tokens(key, SystemClock()).identify(done.stdout.strip())
    assert principal.kinds == {access_pb2.CALLER_KIND_MEMBER}
    assert (principal.organization, principal.name) == (ACME, f"{ACME}/members/user_1")


async def test_a_token_is_printed_as_json(run: Run, key: DevelopmentKey) -> None:
    """With how long it is good."""
    printed = json.loads(run("id", "token", "--role", "platform_admin", "--format", "json").stdout)
    assert printed["expires_in_s"] == 900
    assert (await development_tokens(key, SystemClock()).identify(printed["token"])).organization == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--role", "member"), "needs an organization"),
        (("--role", "platform_admin", "--organization", ACME), "no organization"),
        (("--role", "auditor", "--member", "user_1"), "--organization"),
        (("--role", "member", "--organization", ACME, "--member", "organizations/other/members/user_1"), "belongs to"),
        (("--role", "root"), "root"),
    ],
)
@pytest.mark.usefixtures("key")
def test_what_makes_no_sense_is_not_signed(run: Run, arguments: tuple[str, ...], words: str) -> None:
    """One sentence, and the exit code of a command that was mistyped."""
    done = run("id", "token", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_directory_without_a_key_is_told(run: Run) -> None:
    """With what a node needs to have one."""
    done = run("id", "token", "--role", "platform_admin")
    assert done.returncode == 1
    assert "no development issuer" in done.stderr
    assert "[server.identity]" in done.stderr
