"""How long an attack holds up everybody else: the time that the event loop of a node answers nobody."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from typing import Self

from tests.e2e.nodes import Node

_EVERY_S = 0.001


class Pulse:
    """Asks the node whether it lives, again and again; `longest_s` is the longest that it took to say so."""

    def __init__(self, node: Node) -> None:
        self.longest_s = 0.0
        self.count = 0
        self._stopped = threading.Event()
        self._connections = [
            http.client.HTTPConnection(one.removeprefix("http://"), timeout=30) for one in node.internal
        ]
        self._threads = [threading.Thread(target=self._run, args=[one]) for one in self._connections]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.close()

    def _run(self, connection: http.client.HTTPConnection) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            connection.request("GET", "/livez")
            connection.getresponse().read()
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.count += 1
            self._stopped.wait(_EVERY_S)


def hold_of(node: Node, attack: Callable[[], object], *, times: int = 2) -> float:
    """Attack so many times, and return the shortest hold in seconds: a machine that does much else adds to the rest."""
    holds = []
    for _ in range(times):
        with Pulse(node) as pulse:
            attack()
        holds.append(pulse.longest_s)
    return min(holds)
