"""Writes legacy completions, embeddings and the list of models."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from dev.simulator.answer import Answer
from dev.simulator.plan import PERSONAS, Plan
from dev.simulator.replies import prompt_tokens_of, reply_to

from .chat import CREATED, usage_object
from .errors import error_body
from .quirks import Chunk, document_of, events_of, usage_of
from .requests import RequestError, count_of, read_completion, texts_or_tokens

MOST_DIMENSIONS = 4096


def completion_answer(document: Mapping[str, Any], plan: Plan) -> Answer:
    """The answer to POST /v1/completions; choice index = prompt number * n + choice."""
    prompts = texts_or_tokens(document.get("prompt") or "", "prompt")
    asks = [read_completion(document, plan, prompt) for prompt in prompts]
    replies = [reply_to(ask) for ask in asks]
    usages = [usage_object(ask, reply) for ask, reply in zip(asks, replies, strict=True)]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    usage = {name: sum(one[name] for one in usages) for name in names}
    texts: list[tuple[tuple[str, ...], str]] = []
    for ask, reply in zip(asks, replies, strict=True):
        echoed = (ask.last_user_text,) if document.get("echo") else ()
        texts += [(echoed + reply.pieces, reply.finish)] * ask.choices

    def chunk(index: int, text: str, finish: str | None) -> Chunk:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
        return _completion_envelope(plan) | {"choices": [choice]}

    def body() -> bytes:
        choices = [chunk(index, "".join(pieces), finish)["choices"][0] for index, (pieces, finish) in enumerate(texts)]
        return document_of(plan, _completion_envelope(plan) | {"choices": choices}, usage)

    def events() -> tuple[bytes, ...]:
        chunks = [chunk(index, piece, None) for index, (pieces, _) in enumerate(texts) for piece in pieces]
        chunks += [chunk(index, "", finish) for index, (_, finish) in enumerate(texts)]
        return events_of(plan, chunks, usage, asks[0].include_usage)

    return Answer(plan, asks[0].stream, body, events, error_body)


def _completion_envelope(plan: Plan) -> dict[str, Any]:
    return {"id": "cmpl-sim", "object": "text_completion", "created": CREATED, "model": plan.model}


def embeddings_answer(document: Mapping[str, Any], plan: Plan) -> Answer:
    """The answer to POST /v1/embeddings: numbers in steps of 1/1024, so that float32 holds them exactly."""
    items = texts_or_tokens(document.get("input"), "input")
    dimensions = count_of(document, "dimensions", None) or plan.count("dims")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise RequestError(f"dimensions must be from 1 to {MOST_DIMENSIONS}.")
    in_base64 = document.get("encoding_format") == "base64"
    tokens = sum(prompt_tokens_of(item) if isinstance(item, str) else len(item) for item in items)
    usage = usage_of(plan, {"prompt_tokens": tokens, "total_tokens": tokens})

    def body() -> bytes:
        data = [
            {"object": "embedding", "index": index, "embedding": _embedding(item, dimensions, in_base64)}
            for index, item in enumerate(items)
        ]
        answer = {"object": "list", "model": plan.model, "data": data}
        return orjson.dumps(answer if usage is None else answer | {"usage": usage})

    return Answer(plan, False, body, tuple, error_body)


def vector_of(item: str | list[int], dimensions: int) -> list[float]:
    """The embedding of one item: the same for the same item, from -1 to below 1."""
    seed = zlib.crc32(item.encode() if isinstance(item, str) else repr(item).encode())
    return [(zlib.crc32(at.to_bytes(4, "little"), seed) % 2048 - 1024) / 1024 for at in range(dimensions)]


def _embedding(item: str | list[int], dimensions: int, in_base64: bool) -> list[float] | str:
    vector = vector_of(item, dimensions)
    if not in_base64:
        return vector
    return base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()


def models_answer() -> Answer:
    """The answer to GET /v1/models: the personas, without faults."""
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"} for name in PERSONAS]
    body = orjson.dumps({"object": "list", "data": data})
    return Answer(None, False, lambda: body, tuple, error_body)
