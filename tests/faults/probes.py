"""What an attack must not change: that the node lives, answers others in time, and holds no more than before.

Memory is told well only of nodes that were started with `tidy`: others keep for later what they have used.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import grpc
import psutil
from tests.e2e.calls import chat_body, completion_request
from tests.e2e.nodes import Node
from tests.e2e.upstream import until

from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub

MiB = 1024 * 1024
WARM_UP_CALLS = 150
OTHERS_WAIT_S = 3.0
# What a process holds goes up and down by that much with nobody attacking it.
NOISE_BYTES = 2 * MiB
SETTLING_S = 1.0
# Connections to the upstream are kept for the next calls, as many as ran at once; attacks make hundreds of descriptors.
KEPT_FILES = 24


class Probe:
    """Looks at a node's processes from outside. `grown_bytes` is how much more than `before` an attack may leave.

    That is for attacks that send little, or come for the first time: `leaves_nothing` is the finer measure.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.grown_bytes = 3 * NOISE_BYTES
        self.others: Bystander | None = None
        self.before = 0
        self._files = 0
        self._processes = [psutil.Process(process.popen.pid) for process in node.processes]

    def memory(self) -> int:
        """Resident bytes of all processes."""
        return sum(self.memories())

    def memories(self) -> list[int]:
        """Resident bytes of each process."""
        return [process.memory_info().rss for process in self._processes]

    def files(self) -> int:
        """Open descriptors of all processes."""
        return sum(process.num_fds() for process in self._processes)

    def settled(self, down_to: int = 0) -> int:
        """Resident bytes of all processes, the least that they come down to within a while."""
        least = self.memory()
        until = time.monotonic() + SETTLING_S
        while least > down_to and time.monotonic() < until:
            time.sleep(0.05)
            least = min(least, self.memory())
        return least

    def leaves_nothing(self, attack: Callable[[], int], *, rounds: int, first: int = 2) -> None:
        """Attack `first` times to fill what is filled once, and `rounds` times more; `attack` returns the bytes sent.

        Raises AssertionError where a hundredth of what was sent has stayed, or NOISE_BYTES where that is more, and
        again as much of what is sent once more: what leaks does so every time, what a pool takes it takes once.
        """
        for _ in range(first):
            attack()
        files = self.files()
        for last in (False, True):
            before = self.settled()
            sent = sum(attack() for _ in range(rounds))
            bound = max(sent // 100, NOISE_BYTES)
            grown = self.settled(before + bound // 2) - before
            print(f"sent {sent / MiB:.0f} MiB, grown by {grown / MiB:.1f} of at most {bound / MiB:.1f} MiB")
            if grown < bound:
                break
            assert not last, f"{grown / MiB:.1f} MiB more than before, of {sent / MiB:.0f} MiB sent, and so before that"
        assert self.files() <= files + KEPT_FILES

    def served(self) -> int:
        """How many calls others have made so far."""
        return 0 if self.others is None else self.others.answered

    def begin_again(self) -> None:
        """Compare with now: an attack's first time fills pools that its second finds filled."""
        time.sleep(0.2)
        self.before, self._files = self.memory(), self.files()

    def warm_up(self) -> None:
        """Call every way that others call, so that caches and pools are what they will be."""
        other = Bystander(self.node)
        for _ in range(WARM_UP_CALLS):
            other.call()
        other.close()

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        """Have somebody else call all the while, and compare before and after."""
        self.before, self._files = self.memory(), self.files()
        other = self.others = Bystander(self.node)
        other.start()
        try:
            yield
        finally:
            other.stop()
        assert all(process.popen.poll() is None for process in self.node.processes)
        assert other.failures == []
        assert other.longest_s < OTHERS_WAIT_S
        with suppress(AssertionError):
            until(
                lambda: self.files() <= self._files + KEPT_FILES and self.memory() - self.before < self.grown_bytes, 6
            )
        assert self.files() <= self._files + KEPT_FILES, f"{self.files() - self._files} descriptors more than before"
        grown = self.memory() - self.before
        assert grown < self.grown_bytes, f"{grown / MiB:.1f} MiB more than before"


class Bystander:
    """Somebody with a good key who calls over REST and gRPC, one after the other, on connections of its own."""

    def __init__(self, node: Node) -> None:
        self.answered = 0
        self.longest_s = 0.0
        self.failures: list[str] = []
        self._node = node
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._rest = http.client.HTTPConnection(node.origin.removeprefix("http://"), timeout=10)
        self._channel = grpc.insecure_channel(node.grpc)
        self._stub = CompletionsServiceStub(self._channel)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def stop(self) -> None:
        """Call no more, once at least one call was made; and leave."""
        until(lambda: self.answered + len(self.failures) > 0, 15)
        self._stopped.set()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Leave."""
        self._rest.close()
        self._channel.close()

    def call(self) -> None:
        """One call of each kind."""
        bearer = f"Bearer {self._node.api_key}"
        body = json.dumps(chat_body("sim-echo", stream=False))
        headers = {"Authorization": bearer, "Content-Type": "application/json"}
        self._rest.request("POST", "/v1/chat/completions", body, headers)
        answer = self._rest.getresponse()
        document = json.loads(answer.read())
        assert document["choices"][0]["message"]["content"] == "Hello", document
        request = completions.CreateCompletionRequest(completion=completion_request("sim-echo"))
        reply = self._stub.CreateCompletion(request, metadata=(("authorization", bearer),), timeout=10)
        assert reply.completion.choices[0].message.parts[0].text.text == "Hello"

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self.call()
            except Exception as exc:  # noqa: BLE001 - whatever it was, the test tells it
                self.failures.append(repr(exc))
                return
            self.answered += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self._stopped.wait(0.02)
