"""Configurations of clients: complete, well-formed, for the gateway that is asked for, and without a key."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from tokendance.client_configs import BY_NAME, CLIENTS, ClientConfig, Values, fill, render

VALUES = Values("https://gw.example/v1", "vendor/model-1:free", "gw.example:443")
NAMES = [client.name for client in CLIENTS]


def test_every_client_that_is_promised_is_there() -> None:
    """By the names that people type."""
    assert [
        *("codex", "claude-code", "opencode", "aider", "continue", "python", "node", "langchain"),
        *("agenthub", "tokendancecode", "ci"),
    ] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_files_name_the_gateway_and_no_key(name: str) -> None:
    """Nothing is left to fill in; the key is the name of a variable."""
    for file in render(BY_NAME[name], VALUES):
        assert "<<" not in file.text
        assert VALUES.root_url in file.text
        assert VALUES.model in file.text
        assert "TOKENDANCE_API_KEY" in file.text
        assert not re.search(r"tdk_\w", file.text)
        assert file.text.endswith("\n")


@pytest.mark.parametrize("name", NAMES)
def test_files_can_be_read_by_what_reads_them(name: str) -> None:
    """TOML, JSON, YAML, Python and shell, each by its own parser."""
    readers: dict[str, Any] = {
        "toml": tomllib.loads,
        "json": json.loads,
        "yaml": yaml.safe_load,
        "python": lambda text: compile(text, "example", "exec"),
        "sh": lambda text: subprocess.run(["sh", "-n"], input=text, text=True, check=True),
        "javascript": lambda text: text,
    }
    for file in render(BY_NAME[name], VALUES):
        readers[file.language](file.text)


def test_claude_code_gets_the_address_without_the_version() -> None:
    """It adds `/v1` itself; all others take it as it is."""
    for client in CLIENTS:
        (text, *_) = [file.text for file in render(client, VALUES)]
        assert ("https://gw.example/v1" in text) == (client.name != "claude-code")


@pytest.mark.parametrize("model", ['a"b', "a'b", "a\nb", "a b", "$(id)", "`id`", "a\\b", "", "a" * 513])
def test_value_that_would_be_more_than_a_value_is_refused(model: str) -> None:
    """In any of the languages: quotes, ends of lines, and what a shell would run."""
    with pytest.raises(ValueError, match="model holds characters"):
        render(BY_NAME["codex"], Values("https://gw.example/v1", model))


def test_texts_are_filled_too() -> None:
    """What to type names the model."""
    aider: ClientConfig = BY_NAME["aider"]
    assert fill(aider.run, VALUES).endswith("--model openai/vendor/model-1:free")
