"""A model upstream for tests, benchmarks and people: answers deterministically, misbehaves on demand.

    python tools/dev/simulator --port 0     prints {"port": N} when ready; --list-faults shows what it can do
    python -m dev.simulator                 the same, where `tools` is on the path

    async with Simulator() as sim:               in a test
        sim.base_url, sim.log, sim.open_connections

The model name of a request says what to do: `sim`, `sim:tokens=200:rate=50`, `sim-echo`, `fault:cut:n=3`. The
simulator needs httptools, orjson and uvloop, and nothing of the gateway. Answers, ids and usage depend on the
request alone: a prompt has one token for every four characters begun, a completion one for every word (or, in
JSON, every eight characters), and a stream has one event for each token. `GET /_simulator/log` and
`/_simulator/stats` let another process see what came in; `DELETE /_simulator/log` forgets it.
"""

from .records import Record
from .simulator import Simulator

__all__ = ["Record", "Simulator"]
