"""A tunnel through a proxy: CONNECT, and what it answers."""

from __future__ import annotations

import asyncio
import re
import socket

_HEAD_BYTES = 16 * 1024
_GRANTED = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")


async def open_tunnel(found: socket.socket, host: str, port: int) -> None:
    """Ask the proxy at the other end of a socket to connect on. Raises OSError where it does not; closes it then."""
    loop = asyncio.get_running_loop()
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        await loop.sock_sendall(found, f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            # Behind the head nothing comes before this side has spoken, so nothing of it can be read here.
            more = await loop.sock_recv(found, _HEAD_BYTES)
            head += more
            if not more or len(head) > _HEAD_BYTES:
                raise OSError("the proxy broke off")
        if not _GRANTED.match(head):
            raise OSError("the proxy refuses to connect")
    except BaseException:
        found.close()
        raise
