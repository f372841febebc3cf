"""Leads each path of the Messages API to the code that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from dev.simulator.answer import Answer
from dev.simulator.faults import read_model
from dev.simulator.plan import ModelNameError, Plan

from .errors import error_body, refusal
from .messages import messages_answer
from .requests import RequestError, read_messages


def _messages(document: Mapping[str, Any], plan: Plan) -> Answer:
    return messages_answer(read_messages(document, plan))


def _count(document: Mapping[str, Any], plan: Plan) -> Answer:
    body = orjson.dumps({"input_tokens": read_messages({"max_tokens": 1, **document}, plan).prompt_tokens})
    return Answer(plan, False, lambda: body, tuple, error_body)


_POSTS = {"/v1/messages": _messages, "/v1/messages/count_tokens": _count}


def answer(method: str, path: str, body: bytes) -> Answer | None:
    """The answer to one request, or None if the path is not of this dialect; depends on nothing else."""
    handler = _POSTS.get(path)
    if handler is None:
        return None
    if method != "POST":
        return refusal(405, "invalid_request_error", f"{path} wants POST.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return refusal(400, "invalid_request_error", f"The body is not JSON: {error}.")
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        return refusal(400, "invalid_request_error", "model: Field required")
    try:
        return handler(document, read_model(document["model"]))
    except ModelNameError as error:
        kind = "not_found_error" if error.status == 404 else "invalid_request_error"
        return refusal(error.status, kind, str(error))
    except RequestError as error:
        return refusal(400, "invalid_request_error", str(error))
