"""`tokendance` in a process that dies at a named point: the n-th time that it comes by there, by SIGKILL.

    python -m tests.e2e.failing_node POINT N serve …

A point is a method of the product, wrapped before the command starts: what is not there any more stops the process at
once with an AttributeError, so that no point can quietly stop to exist.
"""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class Point(NamedTuple):
    """A method, and whether the process dies before it begins or once it has returned."""

    module: str
    method: str
    before: bool = False


POINTS = {
    "after-reserve": Point("tokendance_server.domain.quota.reservations", "Reservations.reserve"),
    "after-upstream-200": Point("tokendance_server.providers.relay", "HttpUpstream._good"),
    "mid-stream": Point("tokendance_server.domain.metered", "Metered.deliver"),
    "before-settle": Point("tokendance_server.domain.quota.reservations", "Reservation.settle", before=True),
    "after-settle": Point("tokendance_server.domain.quota.reservations", "Reservation.settle"),
    "before-answer": Point("tokendance_server.domain.usage.ledger", "OpenRecord.finish"),
    "mid-flush": Point("tokendance_server.stores.sql.usage", "SqlUsageStore._write"),
}


def arm(point: Point, times: int) -> None:
    """Let this process die the `times`-th time that it comes by the point."""
    module = importlib.import_module(point.module)
    owner_name, name = point.method.split(".")
    owner = getattr(module, owner_name)
    method: Callable[..., Any] = getattr(owner, name)
    left = times

    def pass_by() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def awaited(*arguments: Any, **named: Any) -> Any:
        if point.before:
            pass_by()
        answer = await method(*arguments, **named)
        if not point.before:
            pass_by()
        return answer

    def called(*arguments: Any, **named: Any) -> Any:
        answer = method(*arguments, **named)
        pass_by()
        return answer

    setattr(owner, name, awaited if inspect.iscoroutinefunction(method) else called)


def main() -> None:
    """Arm the point, and run the command."""
    point, times, *words = sys.argv[1:]
    arm(POINTS[point], int(times))
    sys.argv = ["tokendance", *words]
    importlib.import_module("tokendance_cli.__main__").main()


if __name__ == "__main__":
    main()
