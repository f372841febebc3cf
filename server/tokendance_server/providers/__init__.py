"""Providers: one upstream wire format each, pure but for the transport, and the relay that joins the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One HTTP request to an upstream: a POST below its base URL. `headers` hold no credential of the gateway's."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class StreamDecoder(Protocol):
    """Turns the bytes of one streamed answer into events. Holds the state of that stream; does no I/O."""

    done: bool
    """True once nothing of use follows: Finished was returned, or `close` will raise what went wrong."""

    def feed(self, data: bytes) -> Sequence[completion_pb2.CompletionEvent]:
        """Return what these bytes complete. Raises provider_error or stream_interrupted."""

    def close(self) -> Sequence[completion_pb2.CompletionEvent]:
        """Return what the end of the body completes, Finished last. Raises stream_interrupted where it was cut."""


class Codec(Protocol):
    """One wire format. Pure: messages in, bytes out, and back. Raises GatewayErrors naming the caller's field.

    `models_path` is where a GET lists the models.
    """

    models_path: str

    def warnings(self, request: completion_pb2.CompletionRequest) -> Sequence[completion_pb2.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""

    def encode_completion(
        self, request: completion_pb2.CompletionRequest, model: str, *, stream: bool
    ) -> UpstreamRequest:
        """Write the request for the upstream's model. Only what `warnings` has let pass may be written."""

    def decode_completion(self, body: bytes, request: completion_pb2.CompletionRequest) -> completion_pb2.Completion:
        """Read a whole answer to `request`, whose size stands in for counts that are missing. Raises provider_error."""

    def stream_decoder(self, request: completion_pb2.CompletionRequest) -> StreamDecoder:
        """Return a decoder for one streamed answer to `request`."""

    def encode_embeddings(self, request: completion_pb2.EmbeddingsRequest, model: str) -> UpstreamRequest:
        """Write the request for vectors."""

    def decode_embeddings(self, body: bytes, request: completion_pb2.EmbeddingsRequest) -> completion_pb2.Embeddings:
        """Read the vectors of all inputs of `request`, in order. Raises provider_error."""

    def decode_models(self, body: bytes) -> Sequence[str]:
        """Read the list of models. Raises provider_error."""

    def error_of_body(self, body: bytes) -> GatewayError:
        """Say what a document means that came under status 200 in place of a stream."""

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """Say what a refusal of the upstream means, in the gateway's words. `headers` have lower-case names."""

    def credential_headers(self, credential: str) -> tuple[tuple[str, str], ...]:
        """Return the headers that carry the credential."""


@runtime_checkable
class CapsOutput(Protocol):
    """What a Codec can do besides, where its wire format has to name a cap on the answer."""

    def capped(
        self, request: completion_pb2.CompletionRequest, output_cap: int | None
    ) -> completion_pb2.CompletionRequest:
        """Return the request with a cap: its own, or that of the model, or else one of the format's choosing."""
