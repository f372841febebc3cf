"""Leads each path of the Gemini API to the code that answers it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import orjson

from dev.simulator.answer import Answer
from dev.simulator.faults import read_model
from dev.simulator.openai.others import vector_of
from dev.simulator.openai.quirks import usage_of
from dev.simulator.openai.requests import RequestError
from dev.simulator.plan import PERSONAS, ModelNameError, Plan
from dev.simulator.replies import prompt_tokens_of

from .content import content_answer
from .errors import error_body, refusal
from .requests import read_content

_MODELS = "/v1beta/models"
MOST_TEXTS = 100


def answer(method: str, path: str, body: bytes) -> Answer | None:
    """The answer to one request, or None if the path is not of this dialect; depends on nothing else."""
    if path == _MODELS and method == "GET":
        return _models()
    model, _, verb = path.removeprefix(f"{_MODELS}/").rpartition(":")
    if not path.startswith(f"{_MODELS}/") or verb not in _VERBS:
        return None
    if method != "POST":
        return refusal(405, "INVALID_ARGUMENT", f"{path} wants POST.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return refusal(400, "INVALID_ARGUMENT", f"The body is not JSON: {error}.")
    if not isinstance(document, dict):
        return refusal(400, "INVALID_ARGUMENT", "The body must be an object.")
    try:
        return _VERBS[verb](document, read_model(unquote(model)))
    except ModelNameError as error:
        return refusal(error.status, "NOT_FOUND" if error.status == 404 else "INVALID_ARGUMENT", str(error))
    except RequestError as error:
        return refusal(400, "INVALID_ARGUMENT", str(error))


def _document(document: dict[str, Any], plan: Plan) -> Answer:
    return content_answer(read_content(document, plan, stream=False))


def _stream(document: dict[str, Any], plan: Plan) -> Answer:
    return content_answer(read_content(document, plan, stream=True))


def _embed(document: dict[str, Any], plan: Plan) -> Answer:
    """Vectors in steps of 1/1024, as the OpenAI dialect has them for the same texts."""
    requests = document.get("requests")
    if not isinstance(requests, list) or not 1 <= len(requests) <= MOST_TEXTS:
        raise RequestError(f"requests must be a list of 1 to {MOST_TEXTS}.")
    texts = ["".join(part["text"] for part in one["content"]["parts"]) for one in requests]
    dimensions = requests[0].get("outputDimensionality") or plan.count("dims")
    tokens = sum(map(prompt_tokens_of, texts))
    usage = usage_of(plan, {"promptTokenCount": tokens, "totalTokenCount": tokens})
    written: dict[str, Any] = {"embeddings": [{"values": vector_of(text, dimensions)} for text in texts]}
    if usage is not None:
        written["usageMetadata"] = usage
    return Answer(plan, False, lambda: orjson.dumps(written), tuple, error_body)


_VERBS = {"generateContent": _document, "streamGenerateContent": _stream, "batchEmbedContents": _embed}


def _models() -> Answer:
    """The personas, without faults."""
    models = [{"name": f"models/{name}", "supportedGenerationMethods": ["generateContent"]} for name in PERSONAS]
    body = orjson.dumps({"models": models})
    return Answer(None, False, lambda: body, tuple, error_body)
