"""Measures the budgets of the design on this machine, each beside a yardstick of the same run; judges no build.

    make bench                              the whole table, about three minutes
    python tools/dev/bench --quick --json   a smoke run, as JSON
    python tools/dev/bench --only rest      one part of it; --list names them

Absolute times drift with the machine, so what counts is the ratio of the node to its yardstick: a bare aiohttp JSON
proxy, a relay that copies bytes, an empty grpc.aio handler. Each runs in a process of its own on the node's core and
takes turns with the node (A B A B); the load and the simulated upstream have another core where there is one.
"""
