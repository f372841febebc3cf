"""The fields that Chat Completions and legacy Completions share: sampling, stop texts, streaming, identifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document

SetField = Callable[[pb.CompletionRequest, Any], None]

MAX_STOPS = 4
MAX_CHOICES = 128


def _model(request: pb.CompletionRequest, value: Any) -> None:
    request.model = checks.text(value, "model", low=1, high=256)


def _temperature(request: pb.CompletionRequest, value: Any) -> None:
    request.sampling.temperature = checks.number(value, "temperature", 0, 2)


def _top_p(request: pb.CompletionRequest, value: Any) -> None:
    request.sampling.top_p = checks.number(value, "top_p", 0, 1)


def _frequency_penalty(request: pb.CompletionRequest, value: Any) -> None:
    request.sampling.frequency_penalty = checks.number(value, "frequency_penalty", -2, 2)


def _presence_penalty(request: pb.CompletionRequest, value: Any) -> None:
    request.sampling.presence_penalty = checks.number(value, "presence_penalty", -2, 2)


def _seed(request: pb.CompletionRequest, value: Any) -> None:
    request.sampling.seed = checks.integer(value, "seed", -checks.INT64_MAX - 1, checks.INT64_MAX)


def _stop(request: pb.CompletionRequest, value: Any) -> None:
    if type(value) is str:
        request.sampling.stop.append(value)
        return
    for index, stop in enumerate(checks.array(value, "stop", high=MAX_STOPS)):
        request.sampling.stop.append(checks.text(stop, f"stop[{index}]"))


def _logit_bias(request: pb.CompletionRequest, value: Any) -> None:
    bias = request.sampling.logit_bias
    for token, weight in checks.obj(value, "logit_bias").items():
        bias[token] = checks.number(weight, "logit_bias", -100, 100)


def _n(request: pb.CompletionRequest, value: Any) -> None:
    request.choice_count = checks.integer(value, "n", 1, MAX_CHOICES)


def _user(request: pb.CompletionRequest, value: Any) -> None:
    request.user = checks.text(value, "user", high=512)


SHARED_FIELDS: dict[str, SetField] = {
    "model": _model,
    "temperature": _temperature,
    "top_p": _top_p,
    "frequency_penalty": _frequency_penalty,
    "presence_penalty": _presence_penalty,
    "seed": _seed,
    "stop": _stop,
    "logit_bias": _logit_bias,
    "n": _n,
    "user": _user,
}
"""Field name to the function that checks its value, never null, and puts it into the request."""

_STREAM_OPTIONS = frozenset({"include_usage", "include_obfuscation"})


def decode_stream(document: Document, request: pb.CompletionRequest) -> tuple[bool, Document | None]:
    """Read `stream` and `stream_options`; return whether a stream is wanted and the options that are not ours.

    `include_obfuscation` asks for padding between the gateway and its caller; the gateway adds none.
    """
    wanted = document.get("stream")
    stream = checks.boolean(wanted, "stream") if wanted is not None else False
    options = document.get("stream_options")
    if options is None:
        return stream, None
    checks.obj(options, "stream_options")
    if not stream:
        raise checks.invalid("stream_options", "`stream_options` is allowed only with `stream: true`.")
    for name in _STREAM_OPTIONS:
        if options.get(name) is not None:
            checks.boolean(options[name], f"stream_options.{name}")
    request.include_usage = options.get("include_usage") is True
    rest = {name: value for name, value in options.items() if name not in _STREAM_OPTIONS}
    return stream, {"stream_options": rest} if rest else None
