"""Where the gateway is and what every call to it carries; shared by the two clients. Opens nothing itself."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import grpc

from tokendance.errors import GatewayError
from tokendance.rpc import REQUEST_ID_KEY, STATUS_DETAILS_KEY, RpcFailure, from_rpc

API_KEY_VARIABLE = "TOKENDANCE_API_KEY"
TARGET_VARIABLE = "TOKENDANCE_GRPC_TARGET"
DEFAULT_TARGET = "127.0.0.1:50051"
UNARY_TIMEOUT_S = 600.0
STREAM_TIMEOUT_S = 3600.0
# The gateway's own bound on a message; gRPC's default of 4 MiB is smaller than a long prompt with pictures.
_MESSAGE_BYTES = 40 * 1024 * 1024

Metadata = tuple[tuple[str, str | bytes], ...]

_LAST_REQUEST_ID: ContextVar[str | None] = ContextVar("tokendance_last_request_id", default=None)


def last_request_id() -> str | None:
    """Return the request id of the newest answer or error of this thread or asyncio task; None before any.

    Support finds a call by it. A task started with asyncio.create_task or gather sees its own calls only.
    """
    return _LAST_REQUEST_ID.get()


@dataclass(frozen=True, slots=True)
class CallDefaults:
    """What every call carries: the credential, and the deadlines in seconds where a call names none."""

    target: str
    api_key: str = field(repr=False)
    unary_s: float = UNARY_TIMEOUT_S
    stream_s: float = STREAM_TIMEOUT_S

    def __post_init__(self) -> None:
        """Refuse what gRPC would only refuse within the first call; raises ValueError."""
        if not self.api_key.isascii() or any(letter <= " " or letter == "\x7f" for letter in self.api_key):
            raise ValueError("the API key holds characters that no key has; copy it again")
        for name, seconds in (("timeout_s", self.unary_s), ("stream_timeout_s", self.stream_s)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ValueError(f"{name} must be a finite number of seconds above 0")

    def metadata(self, given: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
        """Return the call's own metadata with the credential, unless the call brings another."""
        pairs = tuple(given or ())
        if not self.api_key or any(key == "authorization" for key, _ in pairs):
            return pairs
        return (*pairs, ("authorization", f"Bearer {self.api_key}"))

    def error_of(self, failure: grpc.RpcError) -> GatewayError:
        """Return the error of a failed call; one that never reached the gateway names the target."""
        failed = cast("grpc.Call", failure)
        error = from_rpc(cast("RpcFailure", failed))
        error.request_id = error.request_id or request_id_in(failed.initial_metadata())
        answered = error.request_id or any(key == STATUS_DETAILS_KEY for key, _ in failed.trailing_metadata() or ())
        if not answered and failed.code() is grpc.StatusCode.UNAVAILABLE:
            reason, details = error.reason, error.message
            error = GatewayError(
                reason,
                f"The gateway at {self.target} cannot be reached; check {TARGET_VARIABLE}. ({details})",
                metadata={"target": self.target, "details": details},
            )
        note_request_id(error.request_id)
        return error


def call_defaults(target: str | None, api_key: str | None, timeout_s: float, stream_timeout_s: float) -> CallDefaults:
    """Complete the arguments of a client from the environment; an empty argument is an answer, None is not.

    Raises ValueError for a key or a timeout that cannot be.
    """
    if api_key is None:
        api_key = os.environ.get(API_KEY_VARIABLE, "")
    if target is None:
        target = os.environ.get(TARGET_VARIABLE, "")
    return CallDefaults(target.strip() or DEFAULT_TARGET, api_key.strip(), timeout_s, stream_timeout_s)


def channel_options() -> list[tuple[str, str | int]]:
    """Return the options of every channel that a client opens."""
    try:
        release = version("tokendance")
    except PackageNotFoundError:
        # Copied into a tree without its metadata, the client works all the same.
        release = "0"
    return [
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ("grpc.primary_user_agent", f"tokendance-python/{release}"),
    ]


def note_request_id(request_id: str | None) -> None:
    """Remember the request id of an answer for `last_request_id`."""
    if request_id:
        _LAST_REQUEST_ID.set(request_id)


def request_id_in(*parts: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """Return the request id in the parts of an answer's metadata, or None where none of them carries it."""
    for metadata in parts:
        for key, value in metadata or ():
            if key == REQUEST_ID_KEY and isinstance(value, str):
                return value
    return None
