"""The turns of a canonical request as the `input` of a Responses request, item by item."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.openai_responses.gaps import goes_back
from tokendance_server.providers.openai_responses.places import is_item

Json = dict[str, Any]

_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
}


def write_items(request: pb.CompletionRequest, own: bool, body: Json) -> list[Json]:
    """Return the items of all turns; what stands outside of the conversation in this dialect goes into `body`."""
    items: list[Json] = []
    for message in request.messages:
        path = f"input[{len(items)}]"
        if own and message.instructions and message.role == pb.ROLE_SYSTEM:
            body["instructions"] = "".join(part.text.text for part in message.parts)
        elif message.role == pb.ROLE_ASSISTANT:
            items += _said(message, path, own)
        else:
            items += _given(message, path, own)
    return items


def _given(message: pb.Message, path: str, own: bool) -> Iterable[Json]:
    """A turn of the caller: results of calls and items of its own first, the rest as one message."""
    content: list[pb.Part] = []
    for part in message.parts:
        if part.HasField("tool_result"):
            yield _result(part, path, own)
        elif part.HasField("native") and message.role == pb.ROLE_TOOL:
            yield json_text.caller_object(part.native.json, path)
        else:
            content.append(part)
    if not content:
        return
    item: Json = {"type": "message", "role": _ROLES.get(message.role, "user")}
    if own and message.id:
        item["id"] = message.id
    item["content"] = _content(content, f"{path}.content", own)
    _about(item, content[0], own)
    _add_extra(item, message.extra_json, path, own)
    yield item


def _said(message: pb.Message, path: str, own: bool) -> Iterable[Json]:
    """A turn of the model: its items as they were, or as few messages as hold what is said between its calls."""
    gathered: list[pb.Part] = []
    for part in message.parts:
        kind = part.WhichOneof("content")
        alone = kind in ("tool_call", "reasoning") or (kind == "native" and is_item(part.native.type))
        if gathered and (alone or part.HasField("item")):
            yield _message(gathered, path, own)
            gathered = []
        if not alone:
            gathered.append(part)
        elif kind == "tool_call":
            yield _call(part, path, own)
        elif kind == "native":
            yield json_text.caller_object(part.native.json, path)
        elif goes_back(part.reasoning, own=own):
            yield _reasoning(part, path)
    if gathered:
        yield _message(gathered, path, own)


def _message(parts: list[pb.Part], path: str, own: bool) -> Json:
    about = parts[0].item
    item: Json = {"type": "message", "role": "assistant"}
    if own and about.id:
        item["id"] = about.id
    plain = not (own and (about.id or about.status)) and _is_plain(parts, own)
    item["content"] = (
        parts[0].text.text
        if plain
        else [_part(part, f"{path}.content[{index}]", own, said=True) for index, part in enumerate(parts)]
    )
    _about(item, parts[0], own)
    _add_extra(item, about.extra_json, path, own)
    return item


def _call(part: pb.Part, path: str, own: bool) -> Json:
    call = part.tool_call
    custom = call.kind == pb.TOOL_KIND_CUSTOM
    item: Json = {"type": "custom_tool_call" if custom else "function_call"}
    if own and call.item_id:
        item["id"] = call.item_id
    item |= {"call_id": call.id, "name": call.name}
    if custom:
        item["input"] = call.input
    else:
        item["arguments"] = call.arguments_json if own else call.arguments_json or "{}"
    if call.namespace:
        item["namespace"] = call.namespace
    _about(item, part, own)
    _add_extra(item, part.extra_json, path, own)
    return item


def _result(part: pb.Part, path: str, own: bool) -> Json:
    result = part.tool_result
    custom = result.kind == pb.TOOL_KIND_CUSTOM
    item: Json = {"type": "custom_tool_call_output" if custom else "function_call_output"}
    if own and result.item_id:
        item["id"] = result.item_id
    item["call_id"] = result.call_id
    if own and result.name:
        item["name"] = result.name
    item["output"] = _content(list(result.parts), f"{path}.output", own)
    _about(item, part, own)
    _add_extra(item, part.extra_json, path, own)
    return item


def _reasoning(part: pb.Part, path: str) -> Json:
    thought = part.reasoning
    item: Json = {"type": "reasoning"}
    if thought.item_id:
        item["id"] = thought.item_id
    item["summary"] = [{"type": "summary_text", "text": text} for text in thought.summary]
    if thought.text:
        item["content"] = [{"type": "reasoning_text", "text": thought.text}]
    if thought.encrypted_content:
        item["encrypted_content"] = thought.encrypted_content
    _about(item, part, True)
    if part.extra_json:
        # Where the plain texts do not say all of it, the whole stands here.
        item |= json_text.caller_extra(part.extra_json, path)
    return item


def _content(parts: list[pb.Part], path: str, own: bool) -> str | list[Json]:
    """One plain text as a text, everything else as a list of parts."""
    if _is_plain(parts, own):
        return parts[0].text.text
    return [_part(part, f"{path}[{index}]", own, said=False) for index, part in enumerate(parts)]


def _is_plain(parts: list[pb.Part], own: bool) -> bool:
    if len(parts) != 1 or not parts[0].HasField("text"):
        return False
    return not (own and (parts[0].extra_json or parts[0].HasField("cache_breakpoint")))


def _part(part: pb.Part, path: str, own: bool, *, said: bool) -> Json:
    kind = part.WhichOneof("content")
    if kind == "native":
        return json_text.caller_object(part.native.json, path)
    if kind == "text":
        text = part.text.text
        written: Json = {"type": "output_text", "text": text, "annotations": []} if said else _input_text(text)
        if own and part.extra_json:
            # An empty list of annotations is only what the form wants; the caller's own say more.
            written |= json_text.caller_extra(part.extra_json, path)
            written |= {"type": written["type"], "text": text}
    elif kind == "refusal":
        written = {"type": "refusal", "refusal": part.refusal.text} if said else _input_text(part.refusal.text)
    elif kind == "image":
        written = {"type": "input_image", **_image(part.image)}
    elif kind == "audio":
        sound = {"data": base64.b64encode(part.audio.data).decode(), "format": part.audio.format}
        written = {"type": "input_audio", "input_audio": sound}
    else:
        written = {"type": "input_file", **_file(part.file)}
    if own and part.HasField("cache_breakpoint"):
        mark = {"mode": "explicit"}
        if part.cache_breakpoint.ttl:
            mark["ttl"] = part.cache_breakpoint.ttl
        written["prompt_cache_breakpoint"] = mark
    _add_extra(written, part.extra_json, path, own)
    return written


def _input_text(text: str) -> Json:
    return {"type": "input_text", "text": text}


def _image(image: pb.Image) -> Json:
    written: Json = {}
    if image.WhichOneof("source") == "file_id":
        written["file_id"] = image.file_id
    else:
        written["image_url"] = image.url or _data_url(image.data, image.media_type or "image/png")
    if image.detail:
        written["detail"] = image.detail
    return written


def _file(file: pb.File) -> Json:
    written: Json = {}
    if file.filename:
        written["filename"] = file.filename
    source = file.WhichOneof("source")
    if source == "file_id":
        written["file_id"] = file.file_id
    elif source == "url":
        written["file_url"] = file.url
    elif source == "text":
        written["file_data"] = _data_url(file.text.encode(), file.media_type or "text/plain")
    else:
        written["file_data"] = _data_url(file.data, file.media_type or "application/pdf")
    return written


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _about(item: Json, part: pb.Part, own: bool) -> None:
    if own and part.HasField("item"):
        if part.item.status:
            item["status"] = part.item.status
        if part.item.phase:
            item["phase"] = part.item.phase


def _add_extra(written: Json, extra_json: str, path: str, own: bool) -> None:
    if own and extra_json:
        json_text.add_missing(written, json_text.caller_extra(extra_json, path))
