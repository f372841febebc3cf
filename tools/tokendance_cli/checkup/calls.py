"""What the key can do: the models that it sees, one smallest completion, and one that is streamed."""

from __future__ import annotations

import difflib
import json
import time
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from typing import Any

from tokendance.errors import spec_of
from tokendance.gateway.v1 import errors_pb2
from tokendance_cli.checkup.finding import Finding, Spent, State, Subject
from tokendance_cli.failures import FAILED, UNREACHABLE, CommandError
from tokendance_cli.reach import explain
from tokendance_cli.rest import error_of, events_of, refusal, send

_BODY_BYTES = 16 * 1024 * 1024
_STREAM_TOKENS = 16
# An answer that something holds back arrives whole after a wait; one that streams has pauses between its events.
_HELD_BACK_S = 1.0
_AT_ONCE_S = 0.005
_SOME_EVENTS = 4
_SHOWN_NAMES = 5
_REJECTED = spec_of(errors_pb2.ERROR_REASON_PROVIDER_REJECTED).code


@dataclass(frozen=True, slots=True)
class VisibleModel:
    """A model that the key may call, as far as a checkup needs it."""

    name: str
    aliases: tuple[str, ...]
    completes: bool


def list_models(subject: Subject) -> tuple[Finding, list[VisibleModel]]:
    """Ask for the models with the key: whether it is accepted."""
    try:
        with _send(subject, "/models", None) as response:
            request_id = response.headers.get("x-request-id")
            models = _models(json.loads(response.read(_BODY_BYTES)))
    except (CommandError, OSError, HTTPException, ValueError, TypeError) as error:
        return _failed("key", error, subject), []
    return Finding("key", State.OK, "The gateway accepts the key.", request_id=request_id), models


def choose_model(subject: Subject, models: list[VisibleModel]) -> tuple[Finding, VisibleModel | None]:
    """Find the model that was asked for among the visible ones, or choose one."""
    if not models:
        told = "The key is accepted, but may call no model."
        return Finding("models", State.FAILED, told, (_ALLOW,), exit_code=FAILED), None
    count = f"{len(models)} model{'s' if len(models) != 1 else ''}"
    wanted = subject.model
    if not wanted:
        chosen = next((one for one in models if one.completes), models[0])
        told = f"The key may call {count}; TOKENDANCE_MODEL is not set, so {chosen.name} is tried."
        return Finding("models", State.OK, told), chosen
    for one in models:
        if wanted == one.name or wanted in one.aliases:
            return Finding("models", State.OK, f"The key may call {count}, {wanted} among them."), one
    near = _nearest(wanted, models)
    hint = f"Perhaps you mean {' or '.join(near)}." if near else f"It may call {_some(models)}."
    told = f"The key may call {count}, but {wanted!r} is not among them; names are case-sensitive."
    return Finding("models", State.FAILED, told, (hint, _ALLOW), exit_code=FAILED), None


def complete(subject: Subject, model: str, spent: Spent) -> Finding:
    """Ask a model for one token. Costs one request."""
    began = time.perf_counter()
    try:
        spent.requests += 1
        with _send(subject, "/chat/completions", _body(model, 1)) as response:
            request_id = response.headers.get("x-request-id")
            document = _object(response.read(_BODY_BYTES))
            usage = _usage(document, spent)
            if not document["choices"]:
                raise ValueError("no choice")
    except (CommandError, OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        found = _failed("completion", error, subject)
        # Some models refuse so short an answer; the longer one that is streamed then decides.
        return replace(found, state=State.WARNING, exit_code=0) if found.code == _REJECTED else found
    took_ms = (time.perf_counter() - began) * 1000
    told = f"{model} answers ({took_ms:.0f} ms). Cost: one request, {usage}."
    return Finding("completion", State.OK, told, request_id=request_id)


def stream(subject: Subject, model: str, spent: Spent) -> Finding:
    """Ask a model for a few words, streamed, and watch how they arrive. Costs one request."""
    body = {**_body(model, _STREAM_TOKENS), "stream": True, "stream_options": {"include_usage": True}}
    spent.requests += 1
    watch = _Watch()
    try:
        with _send(subject, "/chat/completions", body) as response:
            request_id = response.headers.get("x-request-id")
            if response.headers.get_content_type() != "text/event-stream":
                told = (
                    "A stream was asked for, and a whole answer came: something on the way changes requests or answers."
                )
                return _streaming(State.FAILED, told, _HELD_BACK, request_id=request_id)
            watch.read(response, request_id, spent)
    except (CommandError, OSError, HTTPException, ValueError, TypeError) as error:
        return _failed("streaming", error, subject)
    if not watch.done:
        told = "The stream ended before its end."
        return _streaming(State.FAILED, told, _CUT, request_id=request_id)
    if watch.was_held_back:
        told = f"The whole stream came at once after {watch.first_s:.1f} s: something on the way may hold it back."
        return _streaming(State.WARNING, told, _HELD_BACK, request_id=request_id)
    told = (
        f"The first event came after {watch.first_s * 1000:.0f} ms, the end after {watch.end_s * 1000:.0f} ms. "
        f"Cost: one request, {watch.usage}."
    )
    return _streaming(State.OK, told, request_id=request_id)


_ALLOW = "Choose a model from `tokendance models list`, or have the key's allowed models changed."
_CUT = "Look at the proxies on the way: one of them may cut long answers."
_CHANGED = "Look at the proxies on the way: one of them may change answers."
_HELD_BACK = "Switch off buffering of answers in the proxy before the gateway (nginx: proxy_buffering off)."


class _Watch:
    """When the events of a stream arrive, in seconds since it was asked for."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._events = 0
        self.first_s = 0.0
        self.end_s = 0.0
        self.done = False
        self.usage = _tokens(0, 0)

    def read(self, response: HTTPResponse, request_id: str | None, spent: Spent) -> None:
        """Take in the whole stream; raises CommandError for an error inside of it."""
        for data in events_of(response):
            self.end_s = time.perf_counter() - self._began
            self.first_s = self.first_s or self.end_s
            if data == "[DONE]":
                self.done = True
                return
            self._events += 1
            chunk = _object(data)
            if "error" in chunk:
                raise refusal(chunk["error"], None, request_id)
            if chunk.get("usage"):
                self.usage = _usage(chunk, spent)

    @property
    def was_held_back(self) -> bool:
        """Tell whether several events came all at once after a wait."""
        waited = self.first_s > _HELD_BACK_S
        return waited and self._events >= _SOME_EVENTS and self.end_s - self.first_s < _AT_ONCE_S


def _send(subject: Subject, path: str, body: dict[str, Any] | None) -> HTTPResponse:
    """Return a good answer; raises CommandError for a refusal, OSError and HTTPException."""
    response = send(subject.base_url + path, subject.key, body, timeout_s=subject.timeout_s)
    if response.status < 300:
        return response
    with response:
        told = error_of(response)
        request_id = response.headers.get("x-request-id")
        if told is None:
            raise CommandError(
                f"Something on the way answered instead of the gateway (HTTP {response.status}).",
                "Look at the proxies between this machine and the gateway.",
                exit_code=UNREACHABLE,
                request_id=request_id,
            )
        raise refusal(told, response.headers.get("x-tokendance-error-code"), request_id)


def _failed(check: str, error: Exception, subject: Subject) -> Finding:
    if isinstance(error, CommandError):
        return Finding(check, State.FAILED, error.message, error.hints, error.request_id, error.exit_code, error.code)
    if isinstance(error, (OSError, HTTPException)):
        trouble = explain(error, subject.base_url, subject.timeout_s)
        told = f"The answer did not come: {trouble.why}."
        return Finding(check, State.FAILED, told, trouble.hints, exit_code=UNREACHABLE)
    told = "The answer is not in the form of TokenDance Gateway."
    return Finding(check, State.FAILED, told, (_CHANGED,), exit_code=FAILED)


def _streaming(state: State, told: str, *do: str, request_id: str | None) -> Finding:
    return Finding("streaming", state, told, do, request_id, FAILED if state is State.FAILED else 0)


def _body(model: str, tokens: int) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Say OK."}], "max_completion_tokens": tokens}


def _models(document: Any) -> list[VisibleModel]:
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise TypeError("no list of models")
    return [
        VisibleModel(
            name=str(one.get("id", "")),
            aliases=tuple(map(str, one.get("aliases") or ())),
            completes="completions" in (one.get("capabilities") or ("completions",)),
        )
        for one in document["data"]
        if isinstance(one, dict)
    ]


def _object(text: str | bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise TypeError("no object")
    return document


def _nearest(wanted: str, models: list[VisibleModel]) -> list[str]:
    names = {name.lower(): name for one in models for name in (one.name, *one.aliases)}
    return [names[low] for low in difflib.get_close_matches(wanted.lower(), names, n=3, cutoff=0.5)]


def _some(models: list[VisibleModel]) -> str:
    names = ", ".join(one.name for one in models[:_SHOWN_NAMES])
    return names if len(models) <= _SHOWN_NAMES else f"{names} and {len(models) - _SHOWN_NAMES} more"


def _usage(document: dict[str, Any], spent: Spent) -> str:
    usage = document.get("usage") or {}
    if not isinstance(usage, dict):
        raise TypeError("no usage")
    taken, given = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    spent.input_tokens += taken
    spent.output_tokens += given
    return _tokens(taken, given)


def _tokens(taken: int, given: int) -> str:
    return f"{taken} tokens in, {given} out"
