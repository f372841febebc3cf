"""Simple arguments to generated messages: what the two clients share. Pure."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Literal

from tokendance.gateway.v1 import completion_pb2 as pb

RoleName = Literal["system", "developer", "user", "assistant"]

_ROLES: dict[RoleName, pb.Role.ValueType] = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_DEVELOPER,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
}


def text_message(role: RoleName, text: str) -> pb.Message:
    """Return one turn of a conversation that is plain text."""
    return pb.Message(role=_ROLES[role], parts=[pb.Part(text=pb.Text(text=text))])


def completion_request(
    model: str | pb.CompletionRequest,
    messages: str | Sequence[pb.Message] = (),
    *,
    system: str = "",
    max_output_tokens: int | None = None,
    temperature: float | None = None,
    stop: Sequence[str] = (),
) -> pb.CompletionRequest:
    """Return the request of a model call.

    A string for `messages` is one turn of the user. A whole request passes through as it is, and must then be
    the only argument: raises ValueError where others come with it.
    """
    if isinstance(model, pb.CompletionRequest):
        if messages or system or stop or max_output_tokens is not None or temperature is not None:
            raise ValueError("a whole CompletionRequest takes no further arguments; set them in the request")
        return model
    turns = [text_message("user", messages)] if isinstance(messages, str) else list(messages)
    if system:
        turns.insert(0, text_message("system", system))
    request = pb.CompletionRequest(model=model, messages=turns, max_output_tokens=max_output_tokens)
    if temperature is not None or stop:
        request.sampling.CopyFrom(pb.Sampling(temperature=temperature, stop=stop))
    return request


def embeddings_request(
    model: str | pb.EmbeddingsRequest, inputs: str | Sequence[str] = (), *, dimensions: int | None = None
) -> pb.EmbeddingsRequest:
    """Return the request for vectors of one or many texts; a whole request passes through as it is."""
    if isinstance(model, pb.EmbeddingsRequest):
        if inputs or dimensions is not None:
            raise ValueError("a whole EmbeddingsRequest takes no further arguments; set them in the request")
        return model
    texts = [inputs] if isinstance(inputs, str) else inputs
    return pb.EmbeddingsRequest(model=model, inputs=texts, dimensions=dimensions)


def text_of(completion: pb.Completion, choice: int = 0) -> str:
    """Return the text of one of an answer's choices; empty where it has none, as when it only calls tools."""
    for candidate in completion.choices:
        if candidate.index == choice:
            return "".join(part.text.text for part in candidate.message.parts if part.HasField("text"))
    return ""


def vector_of(embedding: pb.Embedding) -> list[float]:
    """Return the numbers of a vector."""
    numbers = array("f", embedding.float32_le)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
