"""The file of requests that the database never took: a line of JSON each, beside the journal, for people to look at."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tokendance_server.domain.usage.entries import FinishedEntry, encode
from tokendance_server.stores.journal_files import sync_folder

ASIDE_FILE = "refused.jsonl"


class AsideFile:
    """Satisfies Aside. `told` gets each request, and why, once it is written down."""

    def __init__(self, folder: Path, told: Callable[[FinishedEntry, str], None]) -> None:
        self._path = folder / ASIDE_FILE
        self._told = told

    def put(self, entry: FinishedEntry, why: str) -> None:
        """Append a request, and return once it is on the disk. Raises OSError."""
        new = not self._path.exists()
        line = {
            "time": int(time.time()),
            "why": why,
            "record": entry.id,
            "request": entry.request.request_id,
            "organization": entry.request.organization_id,
            # As the journal had it: to be read again by whoever mends the reason.
            "entry": base64.b64encode(encode(entry)).decode(),
        }
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            data = msgspec.json.encode(line) + b"\n"
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
        finally:
            os.close(file)
        if new:
            sync_folder(self._path.parent)
        self._told(entry, why)
