"""What a node opens before it serves: its pepper by reference, its database, its lease, and Redis where it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.servers import PostgresServer
from tests.stores.conftest import migrate

from tokendance_server.config import ServerConfig
from tokendance_server.domain.clock import SystemClock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.sealing import KeyRing
from tokendance_server.startup import StartupError
from tokendance_server.storage import Storage, open_directory, open_storage
from tokendance_server.stores.sql.leases import RENEW_S

PEPPER = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
VARIABLE = "TOKENDANCE_GATEWAY_PEPPER"
PASSWORD = "hunter2"


class Opened:
    """The storage of one node, closed at the end."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._config = ServerConfig(data_dir=folder, **settings)

    async def __aenter__(self) -> Storage:
        self._directory = open_directory(self._config)
        try:
            secrets = self._directory.secrets
            peppers, ring = PepperRing.of(*secrets.peppers), KeyRing(secrets.ring)
            self._storage = await open_storage(self._config, self._directory, peppers, ring, SystemClock())
        except BaseException:
            self._directory.close()
            raise
        return self._storage

    async def __aexit__(self, *_: object) -> None:
        await self._storage.close()
        self._directory.close()


async def _refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(StartupError) as caught:
        async with Opened(folder, **settings):
            raise AssertionError("it was opened")
    message = str(caught.value)
    assert "\n" not in message
    assert PASSWORD not in message
    assert PEPPER not in message
    return message


async def test_a_node_of_its_own_needs_no_lease(tmp_path: Path) -> None:
    """The file lock of its data directory is one."""
    async with Opened(tmp_path / "data") as storage:
        assert storage.may_serve
        assert not storage.database.is_shared


async def test_the_pepper_of_a_file_is_the_one_of_its_data_directory(tmp_path: Path) -> None:
    """A directory that gets another one, as by a careless copy, is refused instead of every key in it."""
    async with Opened(tmp_path / "data"):
        pass
    (tmp_path / "data" / "pepper").write_bytes(bytes(range(32)))
    assert "server.pepper" in await _refusal(tmp_path / "data")


async def test_a_second_node_is_refused_and_a_lost_lease_is_told(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """Without Redis one node serves; when somebody else has its lease, it may serve no more and its owner hears."""
    settings: dict[str, Any] = {"pepper": f"env:{VARIABLE}"}
    with pytest.MonkeyPatch.context() as patch, postgres_server.database() as url:
        patch.setenv(VARIABLE, PEPPER)
        await migrate(url)
        settings["database_url"] = SecretStr(url)
        async with Opened(tmp_path / "a", **settings) as first:
            assert first.may_serve
            assert not (tmp_path / "a" / "pepper").exists()
            assert not (tmp_path / "a" / "gateway.db").exists()
            assert "without Redis one node serves" in await _refusal(tmp_path / "b", **settings)
            lost = asyncio.Event()
            first.when_lost(lost.set)
            postgres_server.execute("DELETE FROM node_leases", url)
            async with Opened(tmp_path / "b", **settings) as second:
                await asyncio.wait_for(lost.wait(), 3 * RENEW_S)
                assert (first.may_serve, second.may_serve) == (False, True)
        async with Opened(tmp_path / "a", **settings) as again:
            assert again.may_serve
        patch.setenv(VARIABLE, PEPPER[::-1])
        assert "server.pepper" in await _refusal(tmp_path / "a", **settings)


async def test_with_redis_two_nodes_serve(tmp_path: Path, postgres_server: PostgresServer, redis_server: str) -> None:
    """Beside each other, under one pepper."""
    file = tmp_path / "pepper"
    file.write_text(f"{PEPPER}\n")
    file.chmod(0o600)
    with postgres_server.database() as url:
        await migrate(url)
        settings: dict[str, Any] = {"database_url": url, "redis_url": redis_server, "pepper": f"file:{file}"}
        async with Opened(tmp_path / "a", **settings) as first, Opened(tmp_path / "b", **settings) as second:
            assert first.may_serve
            assert second.may_serve
        assert "server.pepper" in await _refusal(tmp_path / "c", **settings | {"pepper": ""})


async def test_redis_is_asked_at_the_start(tmp_path: Path, redis_server: str) -> None:
    """Where it does not answer, or takes no such password, the node does not start."""
    for url, said in (
        (f"redis://:{PASSWORD}@127.0.0.1:1/0", "does not answer"),
        (redis_server.replace("redis://", f"redis://nobody:{PASSWORD}@"), "refuses the user or the password"),
        (f"redis://:{PASSWORD}@127.0.0.1:port/0", "cannot be read"),
    ):
        assert said in await _refusal(tmp_path / "data", redis_url=url)
    async with Opened(tmp_path / "data", redis_url=redis_server) as storage:
        assert storage.may_serve


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "openssl rand -hex 32"),
        (PEPPER[:-2].encode(), "openssl rand -hex 32"),
        (b"0" * 64, "is not random"),
        (b"\xff" * 31, "openssl rand -hex 32"),
        ("ü".encode() * 32, "openssl rand -hex 32"),
    ],
)
async def test_a_reference_that_names_no_pepper_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    """Before anything is made in the data directory."""
    if content is not None:
        (tmp_path / "pepper").write_bytes(content)
        (tmp_path / "pepper").chmod(0o600)
    assert said in await _refusal(tmp_path / "data", pepper=f"file:{tmp_path / 'pepper'}")
    assert not (tmp_path / "data").exists()


async def test_a_pepper_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """With the command that closes it. Raw bytes and digits are both taken, from the secrets directory too."""
    secrets = tmp_path / "data" / "secrets"
    secrets.mkdir(parents=True)
    (tmp_path / "data").chmod(0o700)
    (secrets / "pepper").write_bytes(bytes.fromhex(PEPPER))
    (secrets / "pepper").chmod(0o604)
    assert f"chmod 600 {secrets / 'pepper'}" in await _refusal(tmp_path / "data", pepper="file:pepper")
    (secrets / "pepper").chmod(0o640)
    async with Opened(tmp_path / "data", pepper="file:pepper"):
        pass
    (secrets / "pepper").write_text(PEPPER.upper())
    async with Opened(tmp_path / "data", pepper="file:pepper"):
        pass
    assert "is not set" in await _refusal(tmp_path / "data", pepper=f"env:{VARIABLE}_NOWHERE")
