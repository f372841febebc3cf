"""The wire formats that a provider may speak: the one table of their codecs, without what opens sockets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from tokendance_server.providers import Codec
from tokendance_server.providers.anthropic import AnthropicCodec
from tokendance_server.providers.azure import azure_codec
from tokendance_server.providers.gemini import GeminiCodec
from tokendance_server.providers.openai import OpenAICodec, mint_call_id
from tokendance_server.providers.openai.capabilities import NO_CUSTOM, RESPONSES, RESPONSES_ONLY
from tokendance_server.providers.openai_responses import ResponsesCodec
from tokendance_server.providers.openai_responses.elsewhere import ElsewhereCodec
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES


class MakesCodec(Protocol):
    """Makes the codec of one wire format; raises ValueError for a capability that it does not know."""

    def __call__(
        self, capabilities: Collection[str] = (), /, *, mint: Callable[[], str] = ..., event_bytes: int = ...
    ) -> Codec:
        """Return the codec. `mint` makes ids where the upstream gives none; `event_bytes` bounds a stream's event."""


def _with_responses(make: MakesCodec) -> MakesCodec:
    """Return what makes the codec of an OpenAI-compatible server, which may speak Responses beside its chat."""

    def both(
        capabilities: Collection[str] = (),
        /,
        *,
        mint: Callable[[], str] = mint_call_id,
        event_bytes: int = DEFAULT_EVENT_BYTES,
    ) -> Codec:
        codec = make(capabilities, mint=mint, event_bytes=event_bytes)
        chat = ElsewhereCodec(codec, takes_custom=NO_CUSTOM not in capabilities)
        if RESPONSES not in capabilities and RESPONSES_ONLY not in capabilities:
            return chat
        # Azure's dated address wants its version behind every path.
        _, query, version = chat.models_path.partition("?")
        return ResponsesCodec(
            chat,
            only=RESPONSES_ONLY in capabilities,
            path=f"/responses{query}{version}",
            mint=mint,
            event_bytes=event_bytes,
        )

    return both


def _elsewhere(make: MakesCodec, *, takes_custom: bool = True) -> MakesCodec:
    """Return what makes a codec of another dialect that takes Responses requests, too.

    Without `takes_custom`, tools of free text become functions before they come to it.
    """

    def made(
        capabilities: Collection[str] = (),
        /,
        *,
        mint: Callable[[], str] = mint_call_id,
        event_bytes: int = DEFAULT_EVENT_BYTES,
    ) -> Codec:
        return ElsewhereCodec(make(capabilities, mint=mint, event_bytes=event_bytes), takes_custom=takes_custom)

    return made


WIRE_FORMATS: Mapping[str, MakesCodec] = {
    "openai": _with_responses(OpenAICodec),
    "anthropic": _elsewhere(AnthropicCodec),
    "azure-openai": _with_responses(azure_codec),
    "gemini": _elsewhere(GeminiCodec, takes_custom=False),
}
"""Each by the name that a provider's configuration calls it."""

KINDS = (*WIRE_FORMATS, "demo")
"""All that a provider may be: of a wire format, or the demo, which is built in and has none."""


def check_kind(kind: str, capabilities: Collection[str] = ()) -> None:
    """Raise ValueError for a kind that there is not, or a capability that it does not know."""
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r}; known are {', '.join(KINDS)}")
    if kind in WIRE_FORMATS:
        WIRE_FORMATS[kind](capabilities, event_bytes=DEFAULT_EVENT_BYTES)
    elif capabilities:
        raise ValueError("the built-in demo has no capabilities")
