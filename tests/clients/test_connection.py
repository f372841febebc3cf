"""How a client is set up from arguments and environment, and what it says when nothing answers."""

import pathlib

import pytest

from tokendance import Client, GatewayError
from tokendance.connection import CallDefaults, call_defaults


def _resolved(target: str | None = None, api_key: str | None = None) -> CallDefaults:
    return call_defaults(target, api_key, 600, 3600)


def test_environment_completes_what_was_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Target and key come from the environment; arguments win, and an empty key means none."""
    monkeypatch.setenv("TOKENDANCE_API_KEY", "tdk_environment\n")
    monkeypatch.setenv("TOKENDANCE_GRPC_TARGET", "unix:/run/gateway.sock")
    assert (_resolved().target, _resolved().api_key) == ("unix:/run/gateway.sock", "tdk_environment")
    given = _resolved("gateway:50051", "tdk_given")
    assert (given.target, given.api_key) == ("gateway:50051", "tdk_given")
    assert _resolved(api_key="").api_key == ""


def test_target_defaults_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing said the gateway is looked for on loopback, without a key."""
    monkeypatch.delenv("TOKENDANCE_GRPC_TARGET", raising=False)
    monkeypatch.delenv("TOKENDANCE_API_KEY", raising=False)
    assert (_resolved().target, _resolved().api_key) == ("127.0.0.1:50051", "")


def test_key_is_never_printed() -> None:
    """The key is not part of what a debugger or a log shows."""
    assert "tdk_secret" not in repr(_resolved(api_key="tdk_secret"))


@pytest.mark.parametrize("key", ["tdk_a\nb", "tdk_a b", "tdk_ä", "tdk_\x7f"])
def test_impossible_keys_are_refused(key: str) -> None:
    """What no header can carry is refused before a call, and not shown."""
    with pytest.raises(ValueError, match="copy it again") as caught:
        _resolved(api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_impossible_timeouts_are_refused(seconds: float) -> None:
    """Every call has a deadline."""
    with pytest.raises(ValueError, match="timeout_s"):
        Client(timeout_s=seconds)


def test_own_authorization_wins() -> None:
    """A call that brings its own credential keeps it."""
    own = (("authorization", "Bearer other"),)
    assert _resolved(api_key="tdk_a").metadata(own) == own


def test_unreachable_gateway_is_named(tmp_path: pathlib.Path) -> None:
    """Where nothing listens the error names the target and the variable, and is retryable."""
    target = f"unix:{tmp_path}/none.sock"
    with Client(target, api_key="") as client, pytest.raises(GatewayError) as caught:
        client.get_model("m", timeout_s=5)
    assert target in caught.value.message
    assert "TOKENDANCE_GRPC_TARGET" in caught.value.message
    assert caught.value.retryable
