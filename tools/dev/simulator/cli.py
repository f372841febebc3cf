"""The command line of the simulator."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys

import uvloop

from .faults import describe
from .simulator import Simulator


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGINT or SIGTERM; prints `{"port": N}` when it listens. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="simulator", description="A model upstream, well-behaved or not.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes any free one")
    parser.add_argument("--log-size", type=int, default=1000, help="requests kept for GET /_simulator/log")
    parser.add_argument("--list-faults", action="store_true", help="print all models and faults, and exit")
    options = parser.parse_args(arguments)
    if options.list_faults:
        print(describe())
        return 0
    try:
        uvloop.run(_serve(options.port, options.log_size))
    except OSError as error:
        print(f"simulator: cannot listen on port {options.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


async def _serve(port: int, log_size: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(port=port, log_size=log_size, keep_body_bytes=64 * 1024) as simulator:
        print(json.dumps({"port": simulator.port}), flush=True)
        await stop.wait()
