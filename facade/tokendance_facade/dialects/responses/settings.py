"""What an answer of the Responses API says of its request: all of it, defaults where the request says nothing."""

from __future__ import annotations

from typing import Any

from tokendance_facade.dialects.documents import Document

# Never null in an answer, whatever the request says: clients read them as numbers, words and truth values.
_DEFAULTS: Document = {
    "temperature": 1.0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "truncation": "disabled",
    "service_tier": "default",
    "metadata": {},
}
MAX_SHOWN_CHARACTERS = 256 * 1024
"""Longer instructions are not repeated: a stream would send them three times over."""

_OPTIONAL = ("instructions", "max_output_tokens", "max_tool_calls", "prompt_cache_key", "safety_identifier", "user")
_SHOWN_IF_SENT = ("prompt_cache_retention", "prompt_cache_options", "context_management")


def settings_of(document: Document) -> Document:
    """Return the fields of an answer that its request decides."""
    settings: Document = {name: document.get(name) for name in _OPTIONAL}
    for name, default in _DEFAULTS.items():
        given = document.get(name)
        settings[name] = default if given is None else given
    if len(settings["instructions"] or "") > MAX_SHOWN_CHARACTERS:
        settings["instructions"] = None
    settings["tools"] = [_tool(tool) for tool in document.get("tools") or ()]
    settings["text"] = _text(document.get("text") or {})
    settings["reasoning"] = {"effort": None, "summary": None, **(document.get("reasoning") or {})}
    # What this gateway serves, whatever was asked.
    settings.update(store=False, background=False, previous_response_id=None)
    settings.update({name: document[name] for name in _SHOWN_IF_SENT if document.get(name) is not None})
    return settings


def told_by_upstream(settings: Document, told: Document) -> Document:
    """Return what an upstream of this dialect says of the request, completed where it says less than is required.

    What is null there, or of another kind than it must be, leaves what the request itself says.
    """
    shown: Document = {}
    for name, value in told.items():
        if name not in settings:
            shown[name] = value
        elif value is None or not _fits(name, settings[name], value):
            continue
        elif name == "tools":
            shown[name] = [_tool(tool) for tool in value if type(tool) is dict]
        elif name == "text":
            shown[name] = _text(value)
        elif name == "reasoning":
            shown[name] = {"effort": None, "summary": None, **value}
        else:
            shown[name] = value
    return shown


def _fits(name: str, own: Any, value: Any) -> bool:
    if name == "tool_choice":
        return type(value) in (str, dict)
    if type(own) in (int, float):
        return type(value) in (int, float)
    return own is None or type(own) is type(value)


def _tool(tool: Document) -> Document:
    if tool.get("type") == "function":
        return {"description": None, "parameters": None, "strict": None, **tool}
    return tool


def _text(text: Document) -> Document:
    shown: Document = {"format": {"type": "text"}, "verbosity": "medium"}
    shown.update({name: value for name, value in text.items() if value is not None})
    form: Any = shown["format"]
    if type(form) is not dict:
        shown["format"] = {"type": "text"}
    elif form.get("type") == "json_schema":
        shown["format"] = {"description": None, "strict": None, **form}
    return shown
