"""Texts of the public site that are not in a template, because tests or several pages read them too."""

from __future__ import annotations

from typing import NamedTuple

FAMILIES = {
    "authentication": "Authentication",
    "model": "Models",
    "quota": "Quota and rates",
    "provider": "Providers",
    "request": "Request schema",
    "gateway": "The gateway itself",
}
"""Short titles of the error families, by name."""

ERROR_EXAMPLE = """\
HTTP/1.1 404 Not Found
x-request-id: req_06ffx3k2q8r4tn5v7w9y1z3b5c
x-tokendance-error-code: model_not_found
x-should-retry: false
link: </errors#model_not_found>; rel="help"

{
  "error": {
    "message": "There is no model named 'your-model'; see GET /v1/models for the models of this key.",
    "type": "invalid_request_error",
    "param": "model",
    "code": "model_not_found",
    "request_id": "req_06ffx3k2q8r4tn5v7w9y1z3b5c",
    "origin": "caller",
    "doc_url": "/errors#model_not_found"
  }
}"""
"""What an error looks like over REST."""


class Client(NamedTuple):
    """How one kind of client is configured."""

    name: str
    configure: str
    mind: str


CLIENTS = (
    Client(
        "AgentHub",
        "Base URL and key in the runtime adapter, on the server side that you control",
        "Desktop and web store no model keys, and a Hub session is none: in the place of a key it is refused",
    ),
    Client(
        "Codex and Claude Code",
        "Base URL of this gateway, and the key from the environment",
        "No key in a project's configuration, an issue, a screenshot or a log",
    ),
    Client(
        "TokenDanceCode",
        "Environment variables that lead to this gateway; a command line that is still an experiment",
        "The OpenAI provider is mapped; choosing it by itself is no promise yet, so name it",
    ),
    Client(
        "CI and automation",
        "`TOKENDANCE_API_KEY` as a protected secret of the pipeline",
        "No raw answers, prompts or paths of files in anything that is published",
    ),
)
"""The clients of the quickstart's table."""


def environment_sh(base_url: str) -> str:
    """Return the lines that set a shell's environment."""
    return (
        "# The key comes from your secret store.\n"
        'export TOKENDANCE_API_KEY="tdk_…"\n'
        f'export TOKENDANCE_BASE_URL="{base_url}"\n'
        'export TOKENDANCE_MODEL="your-model"'
    )


def environment_ps1(base_url: str) -> str:
    """Return the lines that set the environment of PowerShell."""
    return (
        "# The key comes from your secret store.\n"
        '$env:TOKENDANCE_API_KEY = "tdk_…"\n'
        f'$env:TOKENDANCE_BASE_URL = "{base_url}"\n'
        '$env:TOKENDANCE_MODEL = "your-model"'
    )
