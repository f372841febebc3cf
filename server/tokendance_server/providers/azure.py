"""Azure OpenAI: the OpenAI wire format at other paths and under another header. Pure.

Two shapes of address are in use. Today's, without a version, ends in `/openai/v1`, and the model of a route is the name
of the deployment:

    base_url: https://RESOURCE.openai.azure.com/openai/v1

The dated one has the deployment in its path, and its version as the capability `api_version:DATE`:

    base_url: https://RESOURCE.openai.azure.com/openai
    capabilities: ["api_version:2024-10-21"]

`bearer` sends the credential as a bearer token of Entra ID; otherwise it is sent as `api-key`. All capabilities of
OpenAI-compatible servers may be named beside these; output caps as max_completion_tokens, and the developer's role,
are understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from urllib.parse import quote

from tokendance_server.providers.openai import OpenAICodec, Wire, mint_call_id
from tokendance_server.providers.openai.capabilities import DEVELOPER_ROLE, MAX_COMPLETION_TOKENS
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES

BEARER = "bearer"
_VERSION = re.compile(r"api_version:(\d{4}-\d{2}-\d{2}(?:-preview)?)")
_UNDERSTOOD = frozenset({MAX_COMPLETION_TOKENS, DEVELOPER_ROLE})


def azure_codec(
    capabilities: Collection[str] = (),
    /,
    *,
    mint: Callable[[], str] = mint_call_id,
    event_bytes: int = DEFAULT_EVENT_BYTES,
) -> OpenAICodec:
    """Return the codec of an Azure OpenAI resource. Raises ValueError for an unknown capability, or two versions."""
    names = frozenset(capabilities)
    versions = [found[1] for name in sorted(names) if (found := _VERSION.fullmatch(name))]
    if len(versions) > 1:
        raise ValueError(f"one api_version is possible, not {len(versions)}")
    others = frozenset(name for name in names if name != BEARER and not _VERSION.fullmatch(name))
    wire = Wire(
        path=_dated(versions[0]) if versions else Wire().path,
        models_path=f"/models?api-version={versions[0]}" if versions else Wire().models_path,
        headers=Wire().headers if BEARER in names else _api_key,
    )
    return OpenAICodec(others | _UNDERSTOOD, mint=mint, event_bytes=event_bytes, wire=wire)


def _dated(version: str) -> Callable[[str, str], str]:
    def path(method: str, model: str) -> str:
        return f"/deployments/{quote(model, safe='')}{method}?api-version={version}"

    return path


def _api_key(credential: str) -> tuple[tuple[str, str], ...]:
    return (("api-key", credential),)
