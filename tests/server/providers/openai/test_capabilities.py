"""The names by which servers differ."""

import pytest

from tokendance_server.providers.openai import CAPABILITIES, OpenAICodec


def test_every_capability_says_what_it_changes() -> None:
    """One sentence each, for those who configure a provider."""
    assert all(text.endswith(".") for text in CAPABILITIES.values())


def test_an_unknown_capability_is_refused() -> None:
    """A typing error must not pass for a capability; the message helps."""
    with pytest.raises(ValueError, match="unknown capabilities: no_m, zz; known are allowed_tools"):
        OpenAICodec({"zz", "no_n", "no_m"})
