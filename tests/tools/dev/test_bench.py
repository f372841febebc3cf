"""The bench: that it measures and reports, never how fast anything is."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dev.bench.answers import Document, EventStream, Reader, UnexpectedAnswerError
from dev.bench.cli import main
from dev.bench.grpc_load import header_blocks
from dev.bench.http_load import Load
from dev.bench.parts import PARTS
from dev.bench.report import document
from dev.bench.rows import ROWS, STREAMS, Side
from dev.bench.run import Outcome, Plan, chosen

FOLDER = Path(__file__).parents[3] / "tools" / "dev" / "bench"

DOCUMENT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
STREAM = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"9\r\ndata: {}\n\n\r\n9\r\ndata: {}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


def rows_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a result by name."""
    return {row["name"]: row for row in result["rows"]}


def test_a_quick_run_measures_every_yardstick() -> None:
    """The command ends well, and every row of it has positive figures, a unit and a place for the node."""
    command = [sys.executable, str(FOLDER), "--quick", "--json", "--no-node"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["failures"] == {}
    assert result["plan"] == {"rounds": 1, "seconds": 0.2, "streams": 50, "node": False}
    assert set(result["machine"]) == {"date", "commit", "machine", "pinning", "load", "python", "packages"}
    rows = rows_of(result)
    assert set(rows) == {row for part in chosen([]) for row in part.rows}
    for name, row in rows.items():
        # Added latency is a difference, and of a few answers of one short round it may be anything.
        assert row["yardstick"]["median"] > 0 or name.startswith("latency"), name
        assert row["yardstick"]["name"]
        assert row["unit"]
        assert row["node"] is None
        assert row["ratio"] is None
        assert row["verdict"] in {"none", "not measured"}


def test_every_row_is_filled_by_exactly_one_part() -> None:
    """No row of the table is forgotten, and none is measured twice."""
    filled = [row for part in PARTS for row in part.rows]
    assert sorted(filled) == sorted(row.name for row in ROWS)


def test_rows_are_chosen_by_their_own_name_or_their_parts() -> None:
    """Both names bring the part that fills the row."""
    assert [part.name for part in chosen(["rest-cpu"])] == ["rest"]
    assert [part.name for part in chosen(["grpc", "rest"])] == ["rest", "grpc"]


@pytest.mark.parametrize("arguments", [["--only", "nonsense"], ["--rounds", "0"], ["--seconds", "1000"]])
def test_bad_use_is_refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A row that is not there, or a load without bounds, ends with 2 and says why."""
    with pytest.raises(SystemExit) as refusal:
        main([*arguments])
    assert refusal.value.code == 2
    assert "error:" in capsys.readouterr().err


def outcome(yardstick: Sequence[float], node: Sequence[float], row: str) -> dict[str, Any]:
    """The one row of a result with these samples."""
    made = Outcome()
    made.samples[row, Side.YARDSTICK].extend(yardstick)
    made.samples[row, Side.NODE].extend(node)
    result = document(Plan(chosen([row]), len(node), 1.0, STREAMS, node=True), made, {})
    return rows_of(result)[row]


def test_a_ratio_compares_the_two_sides_of_one_round() -> None:
    """A machine that slows down between rounds changes no ratio: 0.9 x in each round is 0.9 x."""
    row = outcome([100, 200, 400], [90, 180, 360], "rest-cpu")
    assert row["ratio"] == {"median": 0.9, "least": 0.9, "most": 0.9, "rounds": 3}
    assert row["verdict"] == "pass"
    assert (row["yardstick"]["median"], row["node"]["least"], row["node"]["most"]) == (200, 90, 360)


@pytest.mark.parametrize(
    ("row", "node", "verdict"),
    [("rest-cpu", 101, "miss"), ("chunk-cpu", 130, "pass"), ("ready-first", 1.6, "miss"), ("rest-rate", 1, "none")],
)
def test_a_verdict_follows_the_budget(row: str, node: float, verdict: str) -> None:
    """Ratios are held against a yardstick of 100, absolute budgets against the node alone."""
    assert outcome([100], [node], row)["verdict"] == verdict


@pytest.mark.parametrize(("reader", "answer"), [(Document, DOCUMENT), (EventStream, STREAM)])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_answers_end_where_they_end_however_they_are_cut(reader: type[Reader], answer: bytes, size: int) -> None:
    """Packets may tear any mark apart: each of two answers is complete once, and each event counts once."""
    reads = reader()
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    complete = [reads.feed(piece) for piece in pieces + pieces]
    assert [at for at, done in enumerate(complete) if done] == [len(pieces) - 1, 2 * len(pieces) - 1]
    assert reads.events == (4 if reader is EventStream else 0)


@pytest.mark.parametrize(
    ("reader", "answer"),
    [
        (Document, DOCUMENT.replace(b"200 OK", b"429 Too Many Requests")),
        (EventStream, STREAM.replace(b"200 OK", b"500 Internal Server Error")),
        (EventStream, STREAM.replace(b"[DONE]", b"[done]")),
    ],
)
def test_what_is_no_measurement_fails(reader: type[Reader], answer: bytes) -> None:
    """Errors and cut streams are cheaper than answers, and must not pass for them."""
    with pytest.raises(UnexpectedAnswerError):
        reader().feed(answer)


def test_percentiles_are_those_of_the_latencies() -> None:
    """The median of 1 to 100 lies at their middle, and the 99th percentile near their end, in any order."""
    load = Load(100, 0, 1.0, 1.0, [float(value) for value in range(100, 0, -1)])
    assert (load.percentile_s(50), load.percentile_s(99), load.percentile_s(100)) == (51, 100, 100)


def test_later_calls_point_at_the_headers_of_the_first() -> None:
    """One byte a header, from the oldest entry of the table to the newest; long values keep their length."""
    first, others = header_blocks("Bearer " + "k" * 200, 50051)
    assert others == bytes(range(0x80 | 70, 0x80 | 61, -1))
    assert bytes([127, 207 - 127]) + b"Bearer k" in first
