"""Keeps the price book of a node up to date: read at the start, and again whenever prices change anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tokendance_server.domain.changes import Change
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.prices.store import PriceStore

_RETRY_S = 0.5


class FollowedPrices:
    """Reads what is kept into a book. Satisfies ChangeListener.

    `report` gets the error when reading begins to fail, and None when it works again; until then the last prices hold.
    """

    def __init__(self, store: PriceStore, book: PriceBook, report: Callable[[Exception | None], None]) -> None:
        self._store = store
        self._book = book
        self._report = report
        self._failing = False
        self._reading = asyncio.Lock()
        self._outdated = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def reload(self) -> None:
        """Let the prices hold that are kept now. Raises what the store raises, and then all stays as it was."""
        # One at a time: of two readings, the one that began first may end last.
        async with self._reading:
            self._book.put(await self._store.load())

    def start(self) -> None:
        """Follow the changes until `close`."""
        self._task = asyncio.create_task(self._follow(), name="prices")

    async def close(self) -> None:
        """End following; harmless where it never began."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def changed(self, change: Change) -> None:
        """Read again."""
        self._outdated.set()

    def everything_changed(self) -> None:
        """Read again."""
        self._outdated.set()

    async def _follow(self) -> None:
        while True:
            await self._outdated.wait()
            self._outdated.clear()
            try:
                await self.reload()
            except Exception as exc:  # noqa: BLE001 - the last prices hold, and the next try may succeed
                if not self._failing:
                    self._report(exc)
                self._failing = True
                self._outdated.set()
                await asyncio.sleep(_RETRY_S)
            else:
                if self._failing:
                    self._report(None)
                self._failing = False
