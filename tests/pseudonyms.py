"""Usage that only remembers whose records got another name."""

from __future__ import annotations


class NamedAnew:
    """Satisfies Pseudonyms."""

    def __init__(self) -> None:
        self.given: dict[tuple[str, str], str] = {}

    async def pseudonymise(self, organization_id: str, member_id: str, pseudonym: str) -> None:
        self.given[organization_id, member_id] = pseudonym
