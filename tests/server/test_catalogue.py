"""From settings to the catalogue: what a node will not start with."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tokendance_server.catalogue import NodeUpstreams, build_providers, check_buildable, read_layer, read_settings
from tokendance_server.catalogue_settings import ModelSettings, ProviderSettings, RouteSettings
from tokendance_server.config import EgressSettings
from tokendance_server.domain.catalogue.layers import Layer
from tokendance_server.domain.catalogue.seals import ProviderSeals
from tokendance_server.domain.sealing import KeyRing
from tokendance_server.providers.transport import open_transport
from tokendance_server.startup import ConfigurationError, StartupError

SEALS = ProviderSeals(KeyRing([bytes(range(32))]))
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def _providers(**base_urls: str) -> list[ProviderSettings]:
    return [ProviderSettings(name=name, kind="openai", base_url=url) for name, url in base_urls.items()]


def test_every_provider_at_an_address_that_may_not_be_reached_is_named(tmp_path: Path) -> None:
    """All at once, each with what would open it, and no other provider with them."""
    settings = _providers(
        vllm="http://10.0.0.5:8000/v1",
        ollama="http://localhost:11434/v1",
        odd="http://0x7f.1/",
        fine="https://a.example",
    )
    with pytest.raises(StartupError) as caught:
        build_providers(settings, tmp_path, EgressSettings().policy(loopback_only=False))
    told = str(caught.value)
    assert "provider 'vllm': base_url: 10.0.0.5 is a private address" in told
    assert "allow_private in [server.egress]" in told
    assert "provider 'ollama': base_url: 127.0.0.1 is a loopback address" in told
    assert "allow_loopback = true in [server.egress]" in told
    assert "provider 'odd': base_url: " in told
    assert "'fine'" not in told


def test_a_base_url_that_holds_a_password_is_refused_without_it(tmp_path: Path) -> None:
    """The message goes to the log of the start."""
    with pytest.raises(StartupError) as caught:
        build_providers(
            _providers(acme="https://me:canary@a.example"), tmp_path, EgressSettings().policy(loopback_only=False)
        )
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:11434/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1"])
def test_a_node_on_loopback_may_use_this_machine(tmp_path: Path, url: str) -> None:
    """Nobody else reaches it, so nobody else reaches this machine through it."""
    settings = _providers(ollama=url)
    assert "ollama" in build_providers(settings, tmp_path, EgressSettings().policy(loopback_only=True))


def test_the_operator_has_the_last_word_on_loopback(tmp_path: Path) -> None:
    """In both directions."""
    settings = _providers(ollama="http://localhost:11434/v1")
    opened = EgressSettings(allow_loopback=True).policy(loopback_only=False)
    assert "ollama" in build_providers(settings, tmp_path, opened)
    with pytest.raises(StartupError):
        build_providers(settings, tmp_path, EgressSettings(allow_loopback=False).policy(loopback_only=True))


def test_a_private_network_is_reached_when_it_is_opened(tmp_path: Path) -> None:
    """By the operator's configuration, and no further than it says."""
    policy = EgressSettings(allow_private=("10.0.0.0/24", "fd12::/16")).policy(loopback_only=False)
    assert len(build_providers(_providers(a="http://10.0.0.5/v1", b="http://[fd12::1]/v1"), tmp_path, policy)) == 2
    with pytest.raises(StartupError, match=r"10\.0\.1\.5"):
        build_providers(_providers(a="http://10.0.1.5/v1"), tmp_path, policy)


def _model(name: str, *aliases: str, provider: str = "a") -> ModelSettings:
    return ModelSettings(name=name, aliases=aliases, routes=(RouteSettings(provider=provider, upstream_model="up"),))


def test_models_without_a_provider_are_those_of_the_demo() -> None:
    """As a first file of settings may have them; nothing at all leaves the layer empty."""
    assert read_layer([], [], NOW) == Layer({}, {}, NOW)
    layer = read_layer([], [_model("m", provider="demo")], NOW)
    assert [*layer.providers] == ["demo"]
    assert layer.models["m"].public


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ([_model("m", provider="b")], "model 'm' has a route to 'b', which is no provider"),
        ([_model("m"), _model("m")], "two models are named 'm'"),
        ([_model("m", "x"), _model("n", "x")], "two models claim the name 'x'"),
        ([_model("m"), _model("n", "m")], "two models claim the name 'm'"),
    ],
)
def test_models_that_cannot_be_served_stop_the_start(models: list[ModelSettings], told: str) -> None:
    """In one line that says which."""
    with pytest.raises(StartupError, match=told):
        read_layer(_providers(a="https://a.example"), models, NOW)


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Addresses, references and models alike, a line each: nobody mends a file one start at a time."""
    providers = [
        ProviderSettings(name="far", kind="openai", base_url="http://10.0.0.5/v1"),
        ProviderSettings(name="keyless", kind="openai", base_url="https://a.example", credential="file:absent"),
    ]
    policy = EgressSettings().policy(loopback_only=False)
    with pytest.raises(ConfigurationError) as caught:
        read_settings(providers, [_model("m", provider="b"), _model("m", provider="far")], tmp_path, policy, NOW)
    told = caught.value.mistakes
    assert [line.split(" ")[0] for line in told[:3]] == ["provider", "provider", "model"]
    assert any("two models are named 'm'" in line for line in told)


async def test_a_provider_that_cannot_be_built_stops_the_start(tmp_path: Path) -> None:
    """With its name and what is wrong."""
    settings = [ProviderSettings(name="a", kind="openai", base_url="https://a.example", capabilities=frozenset({"x"}))]
    policy = EgressSettings().policy(loopback_only=False)
    transport = open_transport("lean", policy)
    configured = build_providers(settings, tmp_path, policy)
    with pytest.raises(StartupError, match="provider 'a': unknown capabilities: x"):
        check_buildable(configured, NodeUpstreams(tmp_path, policy, transport, SEALS))
    await transport.close()


def test_settings_say_everything_of_providers_and_models(tmp_path: Path) -> None:
    """Ways, parameters, and who sees what until when."""
    (tmp_path / "client.key").write_text("-----BEGIN PRIVATE KEY-----\nkey\n-----END PRIVATE KEY-----\n")
    provider = ProviderSettings(
        name="a",
        kind="gemini",
        base_url="https://a.example/v1beta",
        proxy_url="http://proxy.example:3128/",
        client_certificate_pem="certificate",
        client_key="file:client.key",
    )
    policy = EgressSettings().policy(loopback_only=False)
    made = build_providers([provider], tmp_path, policy)["a"]
    assert (made.proxy_url, made.client_certificate_pem) == ("http://proxy.example:3128", "certificate")
    assert made.client_key.splitlines()[1] == "key"
    model = ModelSettings.model_validate(
        {
            "name": "m",
            "visibility": "organizations",
            "organizations": ["organizations/a"],
            "deprecation_date": "2031-02-03",
            "output_modalities": ["image", "image"],
            "routes": [{"provider": "a", "upstream_model": "up", "default_parameters": {"top_k": 5}}],
        }
    )
    spec = read_layer([provider], [model], NOW).models["m"]
    assert (spec.public, spec.organizations, spec.output_modalities) == (False, ("organizations/a",), ("image",))
    assert spec.deprecate_time == int(datetime(2031, 2, 3, tzinfo=UTC).timestamp())
    assert spec.routes[0].default_parameters == '{"top_k":5}'


@pytest.mark.parametrize(
    ("url", "told"),
    [("http://10.0.0.5:3128", "provider 'a': "), ("http://169.254.169.254", "is a metadata service")],
)
def test_a_proxy_that_may_not_be_reached_stops_the_start(tmp_path: Path, url: str, told: str) -> None:
    """It is an address like any other."""
    provider = ProviderSettings(name="a", kind="openai", base_url="https://a.example/v1", proxy_url=url)
    with pytest.raises(StartupError) as caught:
        build_providers([provider], tmp_path, EgressSettings().policy(loopback_only=False))
    assert told in str(caught.value)


def test_settings_that_cannot_be_are_told() -> None:
    """Organizations without their visibility, parameters that are the gateway's own, a certificate without its key."""
    route = {"provider": "a", "upstream_model": "up"}
    with pytest.raises(ValueError, match="organizations go with"):
        ModelSettings.model_validate({"name": "m", "routes": [route], "organizations": ["organizations/a"]})
    with pytest.raises(ValueError, match="must not hold model"):
        RouteSettings.model_validate({**route, "forced_parameters": {"model": "dearer"}})
    with pytest.raises(ValueError, match="client_certificate_pem goes with client_key"):
        ProviderSettings(name="a", kind="openai", base_url="https://a.example", client_certificate_pem="x")
