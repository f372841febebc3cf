"""The conversation as `contents` and `systemInstruction`. Pure; what it cannot say is told by gaps.py.

Turns are of the user or of the model, and neighbours of one side are merged: the results of several calls answer them
in one turn, as this dialect wants it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.gemini import capabilities as can
from tokendance_server.providers.gemini.signatures import (
    SKIP,
    signature_of_call,
    signature_of_reasoning,
    write_signature,
)

Json = dict[str, Any]

INSTRUCTING = (pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER)
_MEDIA = ("image", "audio", "file")


def head_of(messages: Sequence[pb.Message]) -> int:
    """Return how many messages at the beginning are instructions; 0 where there is nothing else to answer."""
    return next((at for at, message in enumerate(messages) if message.role not in INSTRUCTING), 0)


def write_conversation(request: pb.CompletionRequest, body: Json, capabilities: frozenset[str]) -> None:
    """Fill in `contents` and `systemInstruction`. Raises invalid_request for arguments that are no JSON object."""
    head = head_of(request.messages)
    instructions = [
        {"text": part.text.text}
        for message in request.messages[:head]
        for part in message.parts
        if part.HasField("text") and part.text.text
    ]
    if instructions:
        body["systemInstruction"] = {"parts": instructions}
    contents: list[Json] = []
    names: dict[str, str] = {}
    for index, message in enumerate(request.messages[head:], head):
        answer = message.role == pb.ROLE_ASSISTANT
        path = f"messages[{index}]"
        parts = _answer(message, path, names, capabilities) if answer else _question(message, path, names, capabilities)
        role = "model" if answer else "user"
        if contents and contents[-1]["role"] == role:
            together = contents[-1]["parts"]
            together += parts
            # The results of calls stand together, before what is said or shown beside them.
            together.sort(key=lambda one: role == "user" and "functionResponse" not in one)
        elif parts:
            contents.append({"role": role, "parts": parts})
    body["contents"] = contents


def _question(message: pb.Message, path: str, names: dict[str, str], capabilities: frozenset[str]) -> list[Json]:
    """A turn of the user's side: the results of calls, which answer the turn before, and then what is said."""
    results: list[Json] = []
    said: list[Json] = []
    for part in message.parts:
        if part.HasField("tool_result"):
            results.append(_result(part.tool_result, path, names, capabilities))
            said += [_media(one) for one in part.tool_result.parts if one.WhichOneof("content") in _MEDIA]
        else:
            said += _spoken(part, path)
    return results + said


def _answer(message: pb.Message, path: str, names: dict[str, str], capabilities: frozenset[str]) -> list[Json]:
    """A turn of the model, with its signature on the part that it belongs to.

    Of several calls at once only the first has one. A signature that came back with the reasoning alone belongs to the
    first call of the turn, or, where there is none, to the last text.
    """
    written: list[Json] = []
    calls: list[Json] = []
    of_turn = b""
    for part in message.parts:
        kind = part.WhichOneof("content")
        if kind == "reasoning":
            of_turn = signature_of_reasoning(part.reasoning) or of_turn
        elif kind == "tool_call":
            names[part.tool_call.id] = part.tool_call.name
            call = _call(part, path, capabilities)
            calls.append(call)
            written.append(call)
        elif kind == "refusal":
            written.append({"text": part.refusal.text})
        else:
            written += _spoken(part, path)
    signed = any("thoughtSignature" in call for call in calls)
    if calls and not signed:
        if of_turn:
            calls[0]["thoughtSignature"] = write_signature(of_turn)
        elif can.CALL_SIGNATURES in capabilities:
            calls[0]["thoughtSignature"] = SKIP
    elif of_turn and not calls:
        texts = [one for one in written if "text" in one]
        if texts:
            texts[-1]["thoughtSignature"] = write_signature(of_turn)
    return written


def _call(part: pb.Part, path: str, capabilities: frozenset[str]) -> Json:
    call = part.tool_call
    if call.kind == pb.TOOL_KIND_CUSTOM:
        arguments: Json = {"input": call.input}
    elif call.arguments_json.strip():
        arguments = json_text.caller_object(call.arguments_json, f"{path}.tool_calls.arguments")
    else:
        arguments = {}
    about: Json = {"name": call.name, "args": arguments}
    if call.id and can.NO_CALL_IDS not in capabilities:
        about = {"id": call.id, **about}
    written: Json = {"functionCall": about}
    signature = signature_of_call(part)
    if signature:
        written["thoughtSignature"] = write_signature(signature)
    return written


def _result(result: pb.ToolResult, path: str, names: dict[str, str], capabilities: frozenset[str]) -> Json:
    name = names.get(result.call_id) or result.name
    if not name:
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"{path} holds the result of a call that no earlier message made; send the message with the call, too.",
            param=path,
            metadata={"param": path},
            origin="caller",
        )
    text = "\n".join(part.text.text for part in result.parts if part.HasField("text"))
    about: Json = {"name": name, "response": {"error" if result.is_error else "output": text}}
    if result.call_id and can.NO_CALL_IDS not in capabilities:
        about = {"id": result.call_id, **about}
    return {"functionResponse": about}


def _spoken(part: pb.Part, path: str) -> Iterable[Json]:
    """What is said or shown; an empty text says nothing, and is refused upstream."""
    kind = part.WhichOneof("content")
    if kind == "text":
        return [{"text": part.text.text}] if part.text.text else []
    if kind == "native":
        return [json_text.caller_object(part.native.json, path)]
    return [_media(part)] if kind in _MEDIA else []


def _media(part: pb.Part) -> Json:
    kind = part.WhichOneof("content")
    if kind == "audio":
        return _inline(part.audio.data, f"audio/{part.audio.format or 'wav'}")
    if kind == "file":
        file = part.file
        if file.HasField("url"):
            return {"fileData": {"mimeType": file.media_type or "application/pdf", "fileUri": file.url}}
        if file.HasField("text"):
            return _inline(file.text.encode(), file.media_type or "text/plain")
        return _inline(file.data, file.media_type or "application/pdf")
    image = part.image
    if image.HasField("url"):
        return {"fileData": {"mimeType": image.media_type or _type_of(image.url), "fileUri": image.url}}
    return _inline(image.data, image.media_type or "image/png")


def _type_of(url: str) -> str:
    """The media type that the end of an address suggests: this dialect wants one, and no address tells it."""
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    return f"image/{ending}" if ending in ("gif", "png", "webp", "heic", "heif") else "image/jpeg"


def _inline(data: bytes, media_type: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": base64.b64encode(data).decode()}}
