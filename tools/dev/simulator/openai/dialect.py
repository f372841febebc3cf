"""Leads each path of the OpenAI API to the code that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from dev.simulator.answer import Answer
from dev.simulator.faults import read_model
from dev.simulator.plan import ModelNameError, Plan

from .chat import chat_answer
from .errors import refusal
from .others import completion_answer, embeddings_answer, models_answer
from .requests import RequestError, read_chat
from .responses import responses_answer


def _chat(document: Mapping[str, Any], plan: Plan) -> Answer:
    return chat_answer(read_chat(document, plan))


_DEPLOYMENTS = "/deployments/"
_POSTS = {
    "/v1/chat/completions": _chat,
    "/v1/completions": completion_answer,
    "/v1/responses": responses_answer,
    "/v1/embeddings": embeddings_answer,
}


def answer(method: str, path: str, body: bytes) -> Answer | None:
    """The answer to one request, or None if the path is not of this dialect; depends on nothing else.

    Azure has the same below `/openai`, and in its dated form the model's name in the path.
    """
    path = path.removeprefix("/openai")
    deployment = ""
    if path.startswith(_DEPLOYMENTS):
        deployment, _, rest = path.removeprefix(_DEPLOYMENTS).partition("/")
        path = f"/v1/{rest}"
    if path == "/v1/models" and method == "GET":
        return models_answer()
    handler = _POSTS.get(path)
    if handler is None:
        return None
    if method != "POST":
        return refusal(405, "method_not_allowed", f"{path} wants POST.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return refusal(400, "invalid_json", f"The body is not JSON: {error}.")
    if deployment and isinstance(document, dict):
        document["model"] = unquote(deployment)
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        return refusal(400, "missing_required_parameter", "The body must be an object with a model.")
    try:
        return handler(document, read_model(document["model"]))
    except ModelNameError as error:
        reason = "model_not_found" if error.status == 404 else "invalid_value"
        return refusal(error.status, reason, str(error))
    except RequestError as error:
        return refusal(400, "invalid_value", str(error))
