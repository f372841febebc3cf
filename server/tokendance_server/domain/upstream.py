"""What the domain asks of an upstream. Implemented by providers: over HTTP, and in process by the demo."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tokendance.gateway.v1 import completion_pb2


class OpenAnswer(Protocol):
    """The rest of a stream that goes on upstream. `received` counts the bytes that have come so far."""

    received: int

    async def read_events(self) -> Sequence[completion_pb2.CompletionEvent] | None:
        """Return what arrives together next, or None behind the end; raises GatewayError where it breaks off."""

    def close(self) -> None:
        """End it."""


class AfterLeaving(Protocol):
    """Takes over a stream whose caller has left."""

    def take(self, answer: OpenAnswer) -> bool:
        """Take the answer over, to be read and closed; returns False where it stays with its owner, to be closed."""


@dataclass(slots=True)
class Seen:
    """What an upstream shows of itself during one call, for the record of the request; never for its caller.

    `status` is its HTTP status, 0 where none came; `request_id` its own id of the call, as it wrote it; `connect_us`
    the microseconds until a new connection was there, None where an open one served.
    """

    status: int = 0
    request_id: str = ""
    connect_us: int | None = None


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """What is the same for every kind of call: which model there, and until when.

    `model` is the model's name at the upstream; `deadline` is in the event loop's monotonic seconds; `request_id` is
    for logs, never sent upstream. `after_leaving` is who reads a stream on when its caller leaves; without it, the
    upstream is cancelled then. Into `seen` the upstream writes what there is to see of it.
    `output_cap` is the most tokens that the model answers with, None where nobody says. The parameters are those of the
    route: JSON objects in the upstream's own names, or empty.
    """

    model: str
    deadline: float
    request_id: str
    after_leaving: AfterLeaving | None = None
    seen: Seen = field(default_factory=Seen)
    output_cap: int | None = None
    default_parameters: str = ""
    forced_parameters: str = ""


class Upstream(Protocol):
    """One provider, ready to be called. Errors are GatewayErrors of the provider family, scrubbed of its own words.

    Each answer's `id` and `model` are the upstream's; the caller of an Upstream replaces them by the gateway's own.
    A cancelled call closes its connection upstream.
    """

    async def complete(
        self, request: completion_pb2.CompletionRequest, call: UpstreamCall
    ) -> completion_pb2.Completion:
        """Answer in one message."""

    def stream(
        self, request: completion_pb2.CompletionRequest, call: UpstreamCall
    ) -> AsyncIterator[Sequence[completion_pb2.CompletionEvent]]:
        """Answer as batches of events: what arrived together. Started is first; Finished last, or an error raised."""

    async def embed(self, request: completion_pb2.EmbeddingsRequest, call: UpstreamCall) -> completion_pb2.Embeddings:
        """Turn texts into vectors."""

    async def discover(self, call: UpstreamCall) -> Sequence[str]:
        """Ask which models the provider has, by their names there; `call.model` is not looked at."""

    def warnings(self, request: completion_pb2.CompletionRequest) -> Sequence[completion_pb2.Warning]:
        """Tell what of a request this upstream would leave out, without calling it.

        Raises unsupported_parameter, naming the field, where leaving it out would change the answer. It is asked once
        before each call: `complete` and `stream` rely on it.
        """
