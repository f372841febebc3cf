"""The usage journal: what is written survives, what is drained goes, and nothing is read that was not written."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tokendance.gateway.v1 import usage_pb2
from tokendance_server.domain.usage.counts import Counts
from tokendance_server.domain.usage.entries import FinishedEntry, OpenEntry, OpenRequest, StartedAttempt, encode
from tokendance_server.domain.usage.ledger import JournalError
from tokendance_server.stores.journal import FileJournal, FsyncMode
from tokendance_server.stores.journal_files import JournalInUseError, is_locked, read

MIB = 1024 * 1024
_MODES = list(FsyncMode)
_WRITE_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.stores.test_journal import finished, opened
from tokendance_server.domain.usage.entries import encode
from tokendance_server.stores.journal import FileJournal, FsyncMode

async def main():
    journal = FileJournal(Path(sys.argv[1]), 1 << 20, FsyncMode(sys.argv[2]))
    for number in range(20):
        await journal.open(f"rec_{number}", encode(opened(f"rec_{number}")))
        if number % 2:
            await journal.finish(f"rec_{number}", encode(finished(f"rec_{number}")))
    print("written", flush=True)
    journal.finish("rec_0", encode(finished("rec_0")))  # not waited for: may be there or not
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def request(record_id: str, start_us: int = 1) -> OpenRequest:
    """Return a request whose id for callers tells its record."""
    return OpenRequest(request_id=f"req_of_{record_id}", start_us=start_us, organization_id="org_1")


def opened(record_id: str) -> OpenEntry:
    """Return an entry of a request that runs."""
    return OpenEntry(
        id=record_id, node="node_1", request=request(record_id), attempt=StartedAttempt(number=1, start_us=2)
    )


def finished(record_id: str) -> FinishedEntry:
    """Return an entry of a request that is over."""
    return FinishedEntry(
        id=record_id,
        node="node_1",
        request=request(record_id),
        end_us=3,
        outcome=usage_pb2.REQUEST_OUTCOME_SUCCEEDED,
        counts=Counts(5, 2),
        cost_micros=7,
    )


async def write(journal: FileJournal, record_id: str, *, to_its_end: bool = True) -> None:
    """Write a request."""
    await journal.open(record_id, encode(opened(record_id)))
    if to_its_end:
        await journal.finish(record_id, encode(finished(record_id)))


@contextmanager
def files_stay_below(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("mode", _MODES)
async def test_what_was_written_is_found(tmp_path: Path, mode: FsyncMode) -> None:
    """The next process finds the requests that are over, and those that were not."""
    journal = FileJournal(tmp_path, MIB, mode)
    await write(journal, "rec_1")
    await write(journal, "rec_2", to_its_end=False)
    await journal.close()
    found = read(tmp_path)
    assert [entry.id for entry in found.finished] == ["rec_1"]
    assert found.finished[0] == finished("rec_1")
    assert list(found.running) == [opened("rec_2")]
    assert not found.torn


@pytest.mark.parametrize("mode", _MODES)
def test_kill_loses_nothing_that_was_waited_for(tmp_path: Path, mode: FsyncMode) -> None:
    """A process that is killed leaves every entry whose writing was done."""
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_AND_DIE, str(tmp_path), mode],
        capture_output=True, text=True, timeout=30, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "written\n"), done.stderr
    found = read(tmp_path)
    assert {entry.id for entry in found.finished} >= {f"rec_{number}" for number in range(1, 20, 2)}
    assert {entry.id for entry in found.running} >= {f"rec_{number}" for number in range(2, 20, 2)}


async def test_torn_end_is_tolerated_at_every_byte(tmp_path: Path) -> None:
    """However much of the last write is missing, the whole frames before it are read."""
    journal = FileJournal(tmp_path, MIB)
    for record_id in ("rec_1", "rec_2"):
        await write(journal, record_id, to_its_end=False)
    await journal.close()
    (segment,) = read(tmp_path).segments
    content = segment.read_bytes()
    whole = len(content)
    half = whole - 8 - len(encode(opened("rec_2")))
    for end in range(whole):
        segment.write_bytes(content[:end])
        found = read(tmp_path)
        expected = [] if end < half else ["rec_1"]
        assert [entry.id for entry in found.running] == expected, end
        assert bool(found.torn) == (end != half and end != whole - 2 * (8 + len(encode(opened("rec_2")))))


async def test_damaged_frame_is_never_read(tmp_path: Path) -> None:
    """A flipped bit ends the segment: no entry is made of what is not sure."""
    journal = FileJournal(tmp_path, MIB)
    await write(journal, "rec_1", to_its_end=False)
    await journal.close()
    (segment,) = read(tmp_path).segments
    content = bytearray(segment.read_bytes())
    content[-3] ^= 1
    segment.write_bytes(content)
    found = read(tmp_path)
    assert (found.running, list(found.torn)) == ([], [segment])


async def test_one_write_a_tick(tmp_path: Path) -> None:
    """All that is due in one turn of the event loop goes to the kernel at once."""
    journal = FileJournal(tmp_path, MIB, FsyncMode.OFF)
    before = journal.size
    tasks = [asyncio.create_task(write(journal, f"rec_{number}", to_its_end=False)) for number in range(50)]
    await asyncio.sleep(0)
    assert journal.size == before
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks) or journal.size > before
    await asyncio.gather(*tasks)
    assert len(read(tmp_path).running) == 50
    await journal.close()


async def test_full_journal_takes_ends_and_no_starts(tmp_path: Path) -> None:
    """At its bound it refuses, and what runs is still written down."""
    journal = FileJournal(tmp_path, 4096, FsyncMode.OFF)
    number = 0
    while journal.has_room():
        await write(journal, f"rec_{number}")
        number += 1
    assert 10 < number < 60
    await journal.finish("rec_late", encode(finished("rec_late")))
    assert len(read(tmp_path).finished) == number + 1
    journal.drained([f"rec_{one}" for one in range(number)])
    assert journal.has_room()
    await journal.close()


async def test_running_requests_have_room_for_their_ends(tmp_path: Path) -> None:
    """Whatever was let in can be written down to its end within the bound."""
    capacity = 64 * 1024
    journal = FileJournal(tmp_path, capacity, FsyncMode.OFF)
    running: list[str] = []
    while journal.has_room():
        running.append(f"rec_{len(running)}")
        await write(journal, running[-1], to_its_end=False)
    assert len(running) > 10
    long = msgspec.structs.replace(finished("rec_0"), message="x" * 1000)
    for one in running:
        await journal.finish(one, encode(msgspec.structs.replace(long, id=one)))
    assert journal.size <= capacity
    journal.drained(running)
    assert journal.has_room()
    assert (journal._owed, journal._unwritten) == (0, 0)
    await journal.close()


async def test_drained_segments_go_and_the_rest_stays(tmp_path: Path) -> None:
    """What is in the database is dropped, the oldest first; at the end no file is left."""
    journal = FileJournal(tmp_path, 8192, FsyncMode.OFF)
    for number in range(30):
        await write(journal, f"rec_{number}")
    assert len(read(tmp_path).segments) > 3
    journal.drained([f"rec_{number}" for number in range(29)])
    found = read(tmp_path)
    assert "rec_29" in {entry.id for entry in found.finished}
    assert len(found.segments) <= 3
    journal.drained(["rec_29"])
    await journal.close()
    assert read(tmp_path).segments == []


async def test_request_that_runs_for_long_holds_no_segments(tmp_path: Path) -> None:
    """Its entry moves forward, and thousands of others can come and go meanwhile."""
    journal = FileJournal(tmp_path, 8192, FsyncMode.BATCH)
    await write(journal, "rec_long", to_its_end=False)
    for number in range(300):
        assert journal.has_room()
        await write(journal, f"rec_{number}")
        journal.drained([f"rec_{number}"])
    assert [entry.id for entry in read(tmp_path).running] == ["rec_long"]
    await journal.finish("rec_long", encode(finished("rec_long")))
    assert read(tmp_path).running == []
    await journal.close()


async def test_left_by_another_process_stays_until_drained(tmp_path: Path) -> None:
    """Old files go once everything that was found in them is in the database."""
    journal = FileJournal(tmp_path, MIB)
    await write(journal, "rec_1")
    await write(journal, "rec_2", to_its_end=False)
    await journal.close()
    again = FileJournal(tmp_path, MIB)
    assert ([one.id for one in again.found.finished], [one.id for one in again.found.running]) == (["rec_1"], ["rec_2"])
    again.drained(["rec_1"])
    assert len(read(tmp_path).segments) == 2
    again.drained(["rec_2"])
    await again.close()
    assert read(tmp_path).segments == []


async def test_one_writer(tmp_path: Path) -> None:
    """A second process is refused until the first has closed."""
    journal = FileJournal(tmp_path, MIB)
    assert is_locked(tmp_path)
    with pytest.raises(JournalInUseError):
        FileJournal(tmp_path, MIB)
    await journal.close()
    assert not is_locked(tmp_path)
    await FileJournal(tmp_path, MIB).close()


@pytest.mark.parametrize("mode", _MODES)
async def test_full_disk_is_told_and_mended(tmp_path: Path, mode: FsyncMode) -> None:
    """A write that fails fails its request; once the disk takes more, the journal goes on in a new file."""
    journal = FileJournal(tmp_path, MIB, mode)
    await write(journal, "rec_1")
    with files_stay_below(journal.size + 10), pytest.raises(JournalError):
        await write(journal, "rec_2")
    assert journal.broken is not None
    assert not journal.has_room()
    journal._retry_at = 0.0
    assert journal.has_room()
    await write(journal, "rec_3")
    assert [entry.id for entry in read(tmp_path).finished] == ["rec_1", "rec_3"]
    await journal.close()


async def test_cancelled_wait_does_not_undo_the_write(tmp_path: Path) -> None:
    """A caller that leaves while its end is written leaves it written."""
    journal = FileJournal(tmp_path, MIB)
    waiting = asyncio.ensure_future(journal.finish("rec_1", encode(finished("rec_1"))))
    waiting.cancel()
    await write(journal, "rec_2")
    assert {entry.id for entry in read(tmp_path).finished} == {"rec_1", "rec_2"}
    await journal.close()


def test_files_are_private(tmp_path: Path) -> None:
    """Nobody else may read who asked for what."""
    folder = tmp_path / "journal"

    async def make() -> None:
        journal = FileJournal(folder, MIB)
        await write(journal, "rec_1")
        await journal.close()

    asyncio.run(make())
    assert folder.stat().st_mode & 0o077 == 0
    assert all(one.stat().st_mode & 0o077 == 0 for one in folder.iterdir())
