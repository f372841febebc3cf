"""What the server in another process says to this facade: asked once, over the connection that it would use."""

from __future__ import annotations

import asyncio

from tokendance.errors import GatewayError
from tokendance_cli.preflight.row import Row, State
from tokendance_cli.settings import GatewaySettings
from tokendance_facade.server_channel import open_channel
from tokendance_facade.server_watch import ask_server, is_refusal
from tokendance_server.stores.paths import find_sockets

_PART = "server's answer"


def inspect_answer(settings: GatewaySettings) -> Row:
    """Tell whether the server is there, and takes this process for its facade. Its certificates must be usable."""
    return asyncio.run(_inspect(settings))


async def _inspect(settings: GatewaySettings) -> Row:
    async with open_channel(settings.facade, f"unix:{find_sockets(settings.server.data_dir).facade}") as channel:
        try:
            serves = await ask_server(channel)
        except GatewayError as error:
            if is_refusal(error):
                do = "give this facade its certificate, or name the one it has in server.facade_tls.identities"
                return Row(_PART, State.BROKEN, "it takes this certificate for no facade's, and serves no call", do)
            do = "start it, or correct facade.server and [facade.server_tls]; the facade waits for it"
            return Row(_PART, State.BROKEN, f"it cannot be reached now: {error.message}", do)
    if serves:
        return Row(_PART, State.ON, "it serves the calls of this facade")
    return Row(_PART, State.LIMITED, "it is starting or stopping", "ask again in a moment")
