"""The items of one streamed answer, numbered in the order of their beginning, whatever index their server gives them.

Servers that imitate the dialect give all items the same index, leave gaps, or leave ids out.
"""

from __future__ import annotations

from tokendance_server.providers.openai.answer import unreadable

MOST_ITEMS = 2_000
"""Items of one answer, and parts of one item: far above any."""


class Item:
    """An item so far: its kind, its server's id, its place among calls, and what of it has come."""

    __slots__ = ("call", "ended", "heard", "id", "kind")

    def __init__(self, kind: str, name: str, call: int) -> None:
        self.kind = kind
        self.id = name
        self.call = call
        self.heard: set[tuple[str, int]] = set()
        self.ended = False


class Items:
    """All items so far, by number; found by the id that their server gives them, or else by its index."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._at: dict[int, int] = {}
        self._by_id: dict[str, int] = {}

    def __getitem__(self, number: int) -> Item:
        return self._items[number]

    def __len__(self) -> int:
        return len(self._items)

    def at(self, index: int) -> int | None:
        """Return the number of the item that began last at an index."""
        return self._at.get(index)

    def find(self, index: int, name: str) -> int | None:
        """Return the number of an item."""
        found = self._by_id.get(name) if name else None
        return self._at.get(index) if found is None else found

    def find_open(self, index: int, name: str) -> int | None:
        """Return the number of an item that goes on under this very id."""
        number = self.find(index, name)
        if number is None or self._items[number].ended or self._items[number].id != name:
            return None
        return number

    def index_of(self, number: int) -> int:
        """Return the index at which an item began, or one that nothing has, where another item began there since."""
        return next((index for index, at in self._at.items() if at == number), -1 - number)

    def begin(self, index: int, name: str, kind: str, call: int) -> int:
        """Begin an item; return its number. Raises provider_error for one of too many."""
        number = len(self._items)
        if number >= MOST_ITEMS:
            raise unreadable()
        self._items.append(Item(kind, name, call))
        self._at[index] = number
        if name:
            self._by_id[name] = number
        return number
