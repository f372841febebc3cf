"""The sink's file: private, appended to, opened anew where it was rotated away, and whole lines after a torn one."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from tokendance_server.stores.audit_sink import FileSink, StandardOutput


async def test_lines_are_appended_to_a_private_file(tmp_path: Path) -> None:
    """Also to what an earlier process wrote."""
    file = tmp_path / "audit.jsonl"
    for lines in (["1", "2"], ["3"]):
        sink = FileSink(file)
        await sink.write(lines)
        await sink.close()
        await sink.close()
    assert file.read_text() == "1\n2\n3\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_file_that_was_rotated_away_is_made_anew(tmp_path: Path) -> None:
    """Whether it was moved, or removed; no signal is needed."""
    file = tmp_path / "audit.jsonl"
    sink = FileSink(file)
    await sink.write(["1"])
    file.rename(tmp_path / "old")
    await sink.write(["2"])
    assert ((tmp_path / "old").read_text(), file.read_text()) == ("1\n", "2\n")
    file.unlink()
    await sink.write(["3"])
    assert file.read_text() == "3\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await sink.close()


async def test_a_torn_line_is_ended_first(tmp_path: Path) -> None:
    """What comes behind it is whole."""
    file = tmp_path / "audit.jsonl"
    file.write_text('1\n{"seq')
    sink = FileSink(file)
    await sink.write(["2"])
    await sink.close()
    assert file.read_text() == '1\n{"seq\n2\n'


async def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    """A link would lead the trail wherever its maker likes; a folder is none."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link", tmp_path, tmp_path / "missing" / "audit.jsonl"):
        with pytest.raises(OSError):  # noqa: PT011 - whichever it is, the stream tells it
            await FileSink(path).write(["1"])
    assert not (tmp_path / "elsewhere").exists()


async def test_a_full_disk_is_an_error() -> None:
    """It is for the stream to tell it."""
    with pytest.raises(OSError, match="No space"):
        await FileSink(Path("/dev/full")).write(["1"])


async def test_standard_output_is_flushed(capsys: pytest.CaptureFixture[str]) -> None:
    """And stays open."""
    sink = StandardOutput()
    await sink.write(["1", "2"])
    await sink.close()
    await asyncio.sleep(0)
    assert capsys.readouterr().out == "1\n2\n"
