"""What the database never takes is kept in a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.stores.test_journal import finished

from tokendance_server.domain.usage.entries import FinishedEntry, decode
from tokendance_server.stores.usage_aside import ASIDE_FILE, AsideFile


def test_requests_are_appended_whole_and_privately(tmp_path: Path) -> None:
    """Each as the journal had it, with why; and told once it is written."""
    told: list[tuple[FinishedEntry, str]] = []
    for record_id in ("rec_1", "rec_2"):
        AsideFile(tmp_path, lambda entry, why: told.append((entry, why))).put(finished(record_id), "too large")
    file = tmp_path / ASIDE_FILE
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["record"], line["why"]) for line in lines] == [("rec_1", "too large"), ("rec_2", "too large")]
    assert decode(base64.b64decode(lines[1]["entry"])) == finished("rec_2")
    assert [entry.id for entry, _ in told] == ["rec_1", "rec_2"]
    assert file.stat().st_mode & 0o077 == 0
