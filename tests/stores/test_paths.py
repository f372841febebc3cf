"""The data directory: private, held by one process, and clear about what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tokendance_server.startup import StartupError
from tokendance_server.stores.paths import DataDirectory, find_sockets


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _refusal(path: Path) -> str:
    """Return the line with which a directory is refused; it must be one line that names the directory."""
    with pytest.raises(StartupError) as caught:
        DataDirectory.open(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A data directory whose sockets' paths would be too long."""
    return tmp_path / ("d" * 60) / ("e" * 60)


def test_the_first_start_makes_everything_private(tmp_path: Path) -> None:
    """Whatever the umask says, nobody else can read it."""
    before = os.umask(0)
    try:
        directory = DataDirectory.open(tmp_path / "a" / "data")
    finally:
        os.umask(before)
    assert _mode(directory.path) == 0o700
    assert [len(one) for one in (*directory.secrets.peppers, *directory.secrets.ring)] == [32, 32]
    for name in ("pepper", "ring", "lock", "node", "gateway.db"):
        assert _mode(directory.path / name) == 0o600
    assert directory.database == directory.path / "gateway.db"
    directory.close()


def test_the_pepper_stays_and_differs_between_directories(tmp_path: Path) -> None:
    """The next start reads what the first one made."""
    peppers = []
    for name in ("a", "a", "b"):
        directory = DataDirectory.open(tmp_path / name)
        peppers.append(directory.secrets)
        directory.close()
    assert peppers[0] == peppers[1] != peppers[2]


def test_a_node_keeps_its_name(tmp_path: Path) -> None:
    """From its first start on; what is no name is replaced."""
    names = []
    for folder in ("a", "a", "b"):
        directory = DataDirectory.open(tmp_path / folder)
        names.append(directory.node_id)
        directory.close()
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("node_")
    for nothing in (b"", b"\xff\n", b"node_x\n"):
        (tmp_path / "a" / "node").write_bytes(nothing)
        directory = DataDirectory.open(tmp_path / "a")
        assert len(directory.node_id) == len(names[0])
        directory.close()


def test_what_is_kept_elsewhere_is_not_made(tmp_path: Path) -> None:
    """Neither a pepper where one is given, nor a file for a database that is on a server."""
    directory = DataDirectory.open(
        tmp_path / "data", peppers=[bytes(range(32))], ring=[bytes(range(32))], own_database=False
    )
    assert directory.secrets.peppers == directory.secrets.ring == (bytes(range(32)),)
    assert {path.name for path in directory.path.iterdir()} == {"lock", "node"}
    directory.close()


def test_a_second_process_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    """The line names the process that holds it; a process that was killed holds nothing."""
    code = (
        "import sys, pathlib\n"
        "from tokendance_server.stores.paths import DataDirectory\n"
        "held = DataDirectory.open(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "data"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refusal = _refusal(tmp_path / "data")
        assert "Another process" in refusal
        assert str(other.pid) in refusal
        other.kill()
    DataDirectory.open(tmp_path / "data").close()


def test_the_same_process_cannot_open_it_twice_either(tmp_path: Path) -> None:
    """And a refused open does not loosen the first one's hold."""
    directory = DataDirectory.open(tmp_path / "data")
    assert "Another process" in _refusal(tmp_path / "data")
    assert "Another process" in _refusal(tmp_path / "data")
    directory.close()
    DataDirectory.open(tmp_path / "data").close()


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A file in the way, and a file system that takes no directories."""
    (tmp_path / "file").write_text("x")
    assert "--data-dir" in _refusal(tmp_path / "file")
    assert "--data-dir" in _refusal(tmp_path / "file" / "below")
    assert "--data-dir" in _refusal(Path("/proc/tokendance"))


def test_a_directory_of_others_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Somebody's home is not narrowed behind their back; an empty directory may be."""
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    (home / "letters").write_text("x")
    assert f"chmod 700 {home}" in _refusal(home)
    assert _mode(home) == 0o755
    (home / "letters").unlink()
    DataDirectory.open(home).close()
    assert _mode(home) == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    assert "open to others" in _refusal(shared)
    assert _mode(shared) == 0o1777


# Fixed, because names of tests are made of it, and several processes must agree on those.
_RANDOM = bytes.fromhex("9f2c1d7be04a5583c6f1a90e7d3b48265e90c7af13d86b2204fd75b1ce88a37d")


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"p" * 31, 0o600, "31 bytes"),
        (b"", 0o600, "0 bytes"),
        (b"0" * 64, 0o600, "64 bytes"),
        (bytes(32), 0o600, "not random"),
        (_RANDOM, 0o644, "chmod 600"),
        (_RANDOM, 0o640, "chmod 600"),
    ],
)
def test_a_weak_or_open_pepper_is_refused(tmp_path: Path, content: bytes, mode: int, says: str) -> None:
    """And it is not replaced: the keys made under it would be lost."""
    tmp_path.chmod(0o700)
    pepper = tmp_path / "pepper"
    pepper.write_bytes(content)
    pepper.chmod(mode)
    assert says in _refusal(tmp_path)
    assert pepper.read_bytes() == content
    pepper.write_bytes(os.urandom(32))
    pepper.chmod(0o600)
    DataDirectory.open(tmp_path).close()


def test_a_lost_pepper_is_not_made_anew_beside_a_database(tmp_path: Path) -> None:
    """With another pepper every key would be unknown, and nobody would know why."""
    DataDirectory.open(tmp_path / "data").close()
    (tmp_path / "data" / "pepper").unlink()
    assert "restore it from a backup" in _refusal(tmp_path / "data")
    assert not (tmp_path / "data" / "pepper").exists()


def test_sockets_live_in_the_directory_where_their_paths_fit(tmp_path: Path) -> None:
    """Others find them by the directory alone, given in whatever form."""
    directory = DataDirectory.open(tmp_path / "data")
    assert directory.admin_socket == directory.path / "admin.sock"
    assert directory.facade_socket == directory.path / "facade.sock"
    relative = Path(os.path.relpath(directory.path))
    assert find_sockets(relative).facade.resolve() == directory.facade_socket.resolve()
    assert not (directory.path / "sockets.json").exists()
    directory.facade_socket.touch()
    directory.close()
    assert not directory.facade_socket.exists()


def test_long_paths_move_the_sockets_to_a_short_private_folder(deep: Path) -> None:
    """Where they are is written in the directory, and goes away with them."""
    directory = DataDirectory.open(deep)
    folder = directory.admin_socket.parent
    assert len(os.fsencode(directory.facade_socket)) <= 100
    assert _mode(folder) == 0o700
    found = find_sockets(deep)
    assert (found.admin, found.facade) == (directory.admin_socket, directory.facade_socket)
    assert _mode(deep / "sockets.json") == 0o600
    directory.admin_socket.touch()
    directory.close()
    assert not folder.exists()
    assert not (deep / "sockets.json").exists()


def test_the_bound_is_in_bytes_and_exact(tmp_path: Path) -> None:
    """100 bytes fit; 101 move. Letters of two bytes count twice."""
    room = 100 - len(os.fsencode(tmp_path)) - len("//facade.sock")
    for name, stays in (("a" * room, True), ("a" * (room + 1), False), ("é" * (room // 2 + 1), False)):
        directory = DataDirectory.open(tmp_path / name)
        assert (directory.facade_socket.parent == directory.path) is stays
        directory.close()


def test_a_killed_nodes_folder_is_used_again_if_it_is_still_private(deep: Path) -> None:
    """Crashes leave no trail of folders, and a folder that somebody else prepared is not trusted."""
    first = DataDirectory.open(deep)
    folder = first.admin_socket.parent
    os.close(first._lock)  # as the kernel does for a process that was killed
    second = DataDirectory.open(deep)
    assert second.admin_socket.parent == folder
    os.close(second._lock)
    folder.chmod(0o755)
    third = DataDirectory.open(deep)
    assert third.admin_socket.parent != folder
    third.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"folder": 3}', "nonsense", json.dumps({"folder": "/nonexistent"})]
)
def test_a_damaged_note_about_sockets_is_written_anew(deep: Path, content: str) -> None:
    """It holds nothing that cannot be made again."""
    DataDirectory.open(deep).close()
    (deep / "sockets.json").write_text(content)
    directory = DataDirectory.open(deep)
    assert directory.admin_socket.parent.is_dir()
    assert find_sockets(deep).admin == directory.admin_socket
    directory.close()
