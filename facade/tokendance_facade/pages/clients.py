"""How agents and other clients are configured for this gateway: the one source of the command, for the quickstart."""

from __future__ import annotations

import re
from typing import NamedTuple

from tokendance.client_configs import CLIENTS, ConfigFile, Values, fill, render

_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_LOOPBACK = re.compile(r"https?://(?:127\.|localhost\b|\[::1\])")
# The quickstart has examples of these SDKs of its own.
_SHOWN_ELSEWHERE = frozenset({"python", "node"})


class ClientView(NamedTuple):
    """One client: what it is, the files that configure it, what to type, and what to mind."""

    name: str
    title: str
    intro: str
    files: tuple[ConfigFile, ...]
    run: str
    notes: tuple[str, ...]


def client_views(base_url: str) -> tuple[ClientView, ...]:
    """Return every client as configured for a gateway; none where its address cannot stand in a configuration."""
    values = Values(base_url.rstrip("/"), "your-model")
    if not _LOOPBACK.match(base_url):
        # Where services inside call is theirs to know, and not for this page to tell.
        values = values._replace(grpc_target="gateway.internal:50051")
    try:
        return tuple(
            ClientView(
                name=client.name,
                title=client.title,
                intro=_LINK.sub(r"\1", client.intro),
                files=tuple(render(client, values)),
                run=fill(client.run, values),
                # Links of the documentation lead to its own files.
                notes=tuple(fill(_LINK.sub(r"\1", note), values) for note in client.notes),
            )
            for client in CLIENTS
            if client.name not in _SHOWN_ELSEWHERE
        )
    except ValueError:
        return ()
