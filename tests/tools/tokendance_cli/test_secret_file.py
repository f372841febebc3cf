"""A secret in a file: whole, and for nobody else."""

from pathlib import Path

import pytest

from tokendance_cli.failures import CommandError
from tokendance_cli.secret_file import check_writable, write_secret


def test_file_is_private_even_where_it_was_not(tmp_path: Path) -> None:
    """The secret and a newline, mode 0600, whatever was there before."""
    path = tmp_path / "key"
    path.touch(mode=0o644)
    check_writable(path)
    write_secret(path, "tdk_a")
    assert path.read_text(encoding="utf-8") == "tdk_a\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_link_is_replaced_not_followed(tmp_path: Path) -> None:
    """A secret never goes where a link points."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    path = tmp_path / "key"
    path.symlink_to(elsewhere)
    write_secret(path, "tdk_a")
    assert elsewhere.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("name", ["missing/key", "."])
def test_what_cannot_be_written_is_known_before(tmp_path: Path, name: str) -> None:
    """A folder that is not there, or a folder in the file's place, is refused before there is a secret."""
    with pytest.raises(CommandError, match="key file"):
        check_writable(tmp_path / name)


def test_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    """Where writing fails, no half of a secret stays."""
    folder = tmp_path / "key"
    folder.mkdir()
    (folder / "full").touch()
    with pytest.raises(CommandError, match="cannot be written"):
        write_secret(folder, "tdk_a")
    assert list(tmp_path.iterdir()) == [folder]
